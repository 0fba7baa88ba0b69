"""METEOR 1.5: the original Java program matches words, and this module computes sums and the final formula."""

from __future__ import annotations

import subprocess
import weakref
from collections.abc import Sequence
from threading import Thread
from typing import IO

import numpy as np

from microg_da.errors import InputError
from microg_da.text.java import command
from microg_da.text.metrics import Metric, ratio
from microg_da.text.normalise import one_line

# The program's parameters for English: weights of matches by form, stem, synonym, paraphrase, and shape parameters.
STAGES = np.array([1.0, 0.6, 0.8, 0.6])
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
COUNTS = 23


class Meteor(Metric):
    """METEOR 1.5 with English paraphrases and normalised text. Denkowski and Lavie, WMT 2014.

    The program starts and ends with this object. It loads its tables for some seconds in the background. The program
    reads one line per pair, so line breaks and zero-width characters are removed first; with line breaks
    ``pycocoevalcap`` would wait forever.
    """

    def __init__(self) -> None:
        self._program = _start()
        weakref.finalize(self, _end, self._program)

    def statistics(self, candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
        """Return the program's 23 counts for each pair, and 1."""
        pairs = list(zip(candidates, references, strict=True))
        lines = [f"SCORE ||| {_field(reference)} ||| {_field(candidate)}\n" for candidate, reference in pairs]
        # Writing and reading run in parallel, because full pipes would block both sides.
        Thread(target=_write, args=(self._program.stdin, "".join(lines)), daemon=True).start()
        counts = np.array([self._counts(index) for index in range(len(pairs))]).reshape(-1, COUNTS + 1)
        # A pair with equal words is one chunk without penalty, and this chunk does not count in sums.
        whole = (counts[:, 20] == 1) & (counts[:, 21:23] == counts[:, :2]).all(axis=1)
        counts[whole, 20] = 0
        return counts

    def value(self, sums: np.ndarray) -> np.ndarray:
        """Return the weighted F mean of the matched words, reduced by the penalty for many chunks."""
        matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
        sides = []
        for side in (0, 1):
            length, function_words = sums[..., side], sums[..., side + 2]
            matched = DELTA * matches[..., side] + (1 - DELTA) * matches[..., side + 2]
            weighted_length = DELTA * (length - function_words) + (1 - DELTA) * function_words
            sides.append(ratio(matched @ STAGES, weighted_length, empty=0.0))
        precision, recall = sides
        mean = ratio(precision * recall, (1 - ALPHA) * recall + ALPHA * precision, empty=0.0)
        fragmentation = ratio(2 * sums[..., 20], sums[..., 21] + sums[..., 22], empty=0.0)
        return np.where(sums[..., -1] > 0, mean * (1 - GAMMA * fragmentation**BETA), np.nan)

    def _counts(self, index: int) -> list[float]:
        assert self._program.stdout is not None
        counts = [float(count) for count in self._program.stdout.readline().split()]
        if len(counts) != COUNTS:
            raise InputError(f"the METEOR program returned no counts for pair {index + 1}. Free memory: it needs 2 GB.")
        return [*counts, 1.0]


def _start() -> subprocess.Popen[bytes]:
    # One thread for garbage collection; several threads need a third more processor time.
    options = ("-Xmx2G", "-XX:+UseSerialGC", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm")
    line, folder = command("METEOR", "meteor.meteor", *options)
    return subprocess.Popen(line, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _field(text: str) -> str:
    return one_line(text.replace("|||", " "))


def _write(pipe: IO[bytes], text: str) -> None:
    # The reading code reports a program that has died.
    try:
        pipe.write(text.encode(errors="replace"))
        pipe.flush()
    except BrokenPipeError:
        pass


def _end(program: subprocess.Popen[bytes]) -> None:
    program.kill()
    program.wait()
    for pipe in (program.stdin, program.stdout):
        if pipe is not None:
            pipe.close()
