"""Tables and bars: nothing that tells rows apart is cut, and no line is wider than its console."""

from __future__ import annotations

import io
import sys

import pyte
import pytest
from rich.console import Console
from rich.table import Table

from microg_da import terminal
from microg_da.terminal import WITHOUT_TERMINAL, output_console, print_table, progress_bar, shows_progress, tracked

ROWS = [
    ("dann, data.source=synthetic:earth, model.name=slow_r50_8x8", "3", "42.0 ± 1.3", "33.0 ± 2.0", "–"),
    ("dann, data.source=synthetic:microgravity, model.name=slow_r50_4x16", "12", "43.0 ± 1.3", "–", "+3.0 ± 1.0"),
]
HEADERS = ("seeds", "source-\nonly", "gap\nrecovered", "difference\nby seed")


def printed(width: int) -> str:
    table = Table("setting")
    for header in HEADERS:
        table.add_column(header, justify="right", no_wrap=True)
    for row in ROWS:
        table.add_row(*row)
    file = io.StringIO()
    print_table(table, Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 140, WITHOUT_TERMINAL])
def test_nothing_is_cut(width):
    text = printed(width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    together = "".join(text.split())
    for row in ROWS:
        assert all("".join(figure.split()) in together for figure in row[1:])
    words = [word for row in ROWS for word in row[0].split()]
    if width >= 60:  # words are whole where they fit
        assert all(word in text for word in words)


def test_a_table_is_as_wide_as_it_needs_and_not_wider():
    lines = printed(WITHOUT_TERMINAL).splitlines()
    assert [line for line in lines if ROWS[1][0] in line and ROWS[1][-1] in line]
    assert max(map(len, lines)) < 200


def test_a_narrow_terminal_gets_a_block_for_each_row():
    lines = [line.strip() for line in printed(60).splitlines()]
    assert "gap recovered       33.0 ± 2.0" in lines
    assert "source-only         43.0 ± 1.3" in lines


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_color_in_a_file_does_not_make_it_a_terminal(monkeypatch, capsys, variable):
    monkeypatch.setenv(variable, "1")
    console = output_console()
    assert console.is_terminal
    assert console.width == WITHOUT_TERMINAL
    assert not shows_progress(console)
    with progress_bar(console) as progress:
        assert list(tracked("abc", progress, "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_task_ends_with_its_walk():
    with progress_bar(Console(file=io.StringIO())) as progress:
        walk = tracked("abc", progress, "letters", 3)
        next(walk)
        next(walk)
        assert [(task.completed, task.total) for task in progress.tasks] == [(1, 3)]
        walk.close()
        assert not progress.tasks


def test_no_bar_beside_a_bar(monkeypatch):
    import sys

    from rich.file_proxy import FileProxy

    class Device(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=Device(), force_terminal=True)
    assert shows_progress(console)
    monkeypatch.setattr(sys, "stderr", FileProxy(console, sys.stderr))
    assert not shows_progress(console)


def test_lines_above_a_bar_survive_its_redrawing(monkeypatch):
    """A thread redraws the bar while lines are printed and tasks come and go; a terminal still shows every line."""
    lines = 500
    monkeypatch.setattr(terminal, "_is_device", lambda console: True)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, height=24)
    bar = progress_bar(console)
    bar.live.refresh_per_second = 1000
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with bar:
            for line in range(lines):
                tasks = [bar.add_task(name, total=1, completed=1) for name in ("train", "validation")]
                sum(range(20_000))
                bar.refresh()
                bar.remove_task(tasks[1])
                console.print(f"line {line} ends")
                bar.refresh()
                bar.remove_task(tasks[0])
    finally:
        sys.setswitchinterval(interval)
    screen = pyte.Screen(80, lines + 50)
    pyte.Stream(screen).feed(file.getvalue().replace("\n", "\r\n"))
    shown = [row.strip() for row in screen.display if row.strip()]
    assert shown == [f"line {line} ends" for line in range(lines)]
