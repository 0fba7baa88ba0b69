"""Commands under a pseudo-terminal, and what a person would have seen there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
from collections import defaultdict
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import pytest
from commands import call, fork

pyte = pytest.importorskip("pyte")

LINES = 300
"""So many that nothing scrolls away."""

ESCAPE = "\x1b"
COLOR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
_BAR = re.compile(r"^(.*?) *[━╸╺]* +(\d+)% .* left ")
_ERASE = re.compile(r"(?=\r\x1b\[2K|\r\x1b\[1A)")
_VARIABLES = ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


@dataclass
class Seen:
    """What a command left on the terminal.

    Attributes:
        status: the exit status.
        raw: everything that was written to the terminal.
        screen: the lines that are there at the end.
        bars: for each bar that was ever on the screen, by its description, the percentages it showed.
    """

    status: int | None
    raw: str
    screen: list[str]
    bars: dict[str, list[int]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The screen as one line, so that it does not matter where it wrapped."""
        return " ".join(" ".join(self.screen).split())

    def moved(self, *words: str) -> bool:
        """Whether a bar that is described with these words was seen at its beginning, and further on."""
        shown = [percent for name, percent in self.bars.items() if all(word in name for word in words)]
        return any(percent[0] == 0 < max(percent) for percent in shown)


def run(
    argv: list[object],
    folder: Path,
    width: int = 100,
    into: Path | None = None,
    term: str = "xterm-256color",
    **variables: str,
) -> Seen:
    """Run a command of microg_da on a terminal.

    Args:
        argv: its arguments.
        folder: where it runs.
        width: columns of the terminal.
        into: a file for standard output and error; standard input is the terminal all the same.
        term: the kind of terminal.
        variables: of the environment.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, width, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    environment = {**inherited, "TERM": term, **variables}
    words = [str(word) for word in argv]
    process = fork(_command, os.ttyname(theirs), words, str(folder), into, environment)
    parts = []
    while ours in wait([ours, process.sentinel]) or select.select([ours], [], [], 0)[0]:
        parts.append(os.read(ours, 1 << 16))
    process.join()
    os.close(ours)
    os.close(theirs)
    raw = b"".join(parts).decode()
    return Seen(process.exitcode, raw, *_watch(raw, width))


def _command(terminal: str, argv: list[str], folder: str, into: Path | None, environment: dict[str, str]) -> None:
    os.setsid()
    device = os.open(terminal, os.O_RDWR)
    out = device if into is None else os.open(into, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, file in enumerate((device, out, out)):
        os.dup2(file, number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.exit(call(argv, folder, environment))


def _watch(raw: str, width: int) -> tuple[list[str], dict[str, list[int]]]:
    """The last screen, and the bars of all screens: each is looked at before a part of it is erased."""
    screen = pyte.Screen(width, LINES)
    stream = pyte.Stream(screen)
    bars = defaultdict(list)
    for part in _ERASE.split(raw):
        stream.feed(part)
        # Bars are the last lines; to read them all each time takes longer than the commands.
        for line in _lines(screen, screen.cursor.y - 3):
            if match := _BAR.match(line):
                bars[match[1].partition(",")[0]].append(int(match[2]))  # the loss, after a comma, changes
    return [line for line in _lines(screen) if line], dict(bars)


def _lines(screen: pyte.Screen, first: int = 0) -> list[str]:
    """The lines from the first to the cursor's."""
    numbers = range(max(first, 0), screen.cursor.y + 1)
    return ["".join(screen.buffer[y][x].data for x in range(screen.columns)).rstrip() for y in numbers]
