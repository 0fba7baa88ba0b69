"""Terminal output: consoles, progress bars, and tables that fit the terminal and are complete in files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

WITHOUT_TERMINAL = 10_000
"""The width of a file or a pipe, so large that lines and tables are not wrapped."""

LEAST_PROSE = 16
"""The smallest width of a column of sentences."""

T = TypeVar("T")


def output_console() -> Console:
    """Return a console on standard output, for results; lines wrap in a terminal and not in a file or a pipe."""
    return _console(stderr=False)


def message_console() -> Console:
    """Return a console on standard error, for messages and progress bars, as wide as :func:`output_console`."""
    return _console(stderr=True)


def shows_progress(console: Console) -> bool:
    """Return whether a progress bar can be shown: on a terminal that moves its cursor and shows no other bar.

    A file does not count as a terminal, even with FORCE_COLOR.
    """
    other = isinstance(sys.stdout, FileProxy) or isinstance(sys.stderr, FileProxy)
    return console.is_interactive and _is_device(console) and not console.quiet and not other


class _OneBar(Progress):
    """Shows only the task that was added last.

    rich redraws the display from a thread. If the display becomes shorter while another thread prints, rich erases a
    line above it. A display of one line never becomes shorter.
    """

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks[-1:])


def progress_bar(console: Console) -> Progress:
    """Return a bar with percentage and remaining time, erased at the end; it is hidden where no bar can be shown.

    It shows only the task that was added last.
    """
    return _OneBar(
        TextColumn("{task.description}"),
        BarColumn(max(8, min(40, console.width - 56))),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        # Output to a file must not be redirected to the terminal.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=sys.stderr.isatty(),
        disable=not shows_progress(console),
    )


def tracked(items: Iterable[T], progress: Progress, description: str, total: float | None) -> Iterator[T]:
    """Yield the items, and show them as a task of ``progress`` that each item advances by one.

    Args:
        items: the items.
        progress: a started progress bar.
        description: the text of the task.
        total: the number of items; None if unknown.
    """
    walk = iter(items)
    task = progress.add_task(description, total=total)
    try:
        for item in walk:
            yield item
            progress.advance(task)
    finally:
        progress.refresh()  # shows the last item before the task is removed
        progress.remove_task(task)


def print_table(table: Table, console: Console) -> None:
    """Print a table without truncating names or numbers.

    Sentences wrap between words; numbers and single words are not broken. If the table is still wider than the
    terminal, each row becomes a block of lines with one column per line.
    """
    wrapping: dict[int, int] = {}
    for index, column in enumerate(table.columns):
        texts = [_text(cell, console) for cell in (column.header, *column.cells)]
        widest = max(text.__rich_measure__(console, console.options).maximum for text in texts)
        prose = column.justify != "right" and any(" " in text.plain.strip() for text in texts[1:])
        longest_word = max((cell_len(word) for text in texts for word in text.plain.split()), default=0)
        column.min_width = max(longest_word, min(widest, LEAST_PROSE)) if prose else widest
        column.no_wrap, column.overflow = not prose, "fold"
        if prose:
            wrapping[index] = widest - column.min_width
    slack = console.width - table.__rich_measure__(console, console.options.update_width(WITHOUT_TERMINAL)).minimum
    if slack < 0:
        _print_blocks(table, console)
        return
    wanted = sum(wrapping.values())
    for index, more in wrapping.items():
        column = table.columns[index]
        column.width = (column.min_width or 0) + (more if wanted <= slack else more * slack // wanted)
    console.print(table, highlight=False)


def _print_blocks(table: Table, console: Console) -> None:
    if table.title:
        console.print(table.title, style="italic", highlight=False)
    first, *others = table.columns
    names = [
        Text(_text(column.header, console).plain.replace("-\n", "-").replace("\n", " ").strip()) for column in others
    ]
    cells = [list(column.cells) for column in others]
    for row, heading in enumerate(first.cells):
        title, style = _text(heading, console), table.rows[row].style
        if title.plain.strip().isdecimal():
            title = Text.assemble(_text(first.header, console), " ", title)
        title.stylize("bold")
        console.print(title, style=style, highlight=False, overflow="fold")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", overflow="fold")
        grid.add_column(overflow="fold")
        for name, column in zip(names, cells, strict=True):
            if _text(column[row], console).plain.strip():
                grid.add_row(name, column[row])
        console.print(Padding(grid, (0, 0, 0, 2), expand=False), style=style, highlight=False)
    if table.caption:
        console.print(table.caption, style="dim italic", highlight=False)


def _text(cell: object, console: Console) -> Text:
    return cell.copy() if isinstance(cell, Text) else console.render_str(str(cell))


def _console(*, stderr: bool) -> Console:
    # In a notebook rich uses widgets, which may not be shown.
    console = Console(stderr=stderr, highlight=False, force_jupyter=False)
    if not _is_device(console):
        console.width = WITHOUT_TERMINAL
    elif console.is_dumb_terminal:
        # rich assumes 80 columns for such terminals.
        console.size = os.get_terminal_size(console.file.fileno())
    return console


def _is_device(console: Console) -> bool:
    """Return whether the console is a terminal; with FORCE_COLOR, ``console.is_terminal`` is also true for files."""
    try:
        return console.is_terminal and console.file.isatty()
    except ValueError:  # the file has been closed
        return False
