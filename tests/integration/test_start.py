"""Commands import nothing heavy, and answer a slip in one line."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from microg_da.cli import COMMANDS
from microg_da.cli.catalogue import KINDS

HEAVY = {"torch", "torchvision", "pytorch_lightning", "torchmetrics", "wandb", "optuna", "pandas", "matplotlib", "cv2"}
QUICK = [["--help"], ["--version"], ["list"], *(["list", kind] for kind in KINDS), ["list", "models", "--json"]]
QUICK += [[command, "--help"] for command in COMMANDS]


def start(*words: str, interpreter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *interpreter, "-m", "microg_da", *words], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_nothing_heavy_is_imported(words):
    done = start(*words, interpreter=("-X", "importtime"))
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {match[1] for match in re.finditer(r"\|\s+(\w+)[\w.]*$", done.stderr, flags=re.MULTILINE)}
    assert "argparse" in imported  # the listing was understood
    assert not imported & HEAVY


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["lst"], "'list'"),
        (["fti", "--experiment", "ava2microg"], "'fit'"),
        (["--vrsion"], "'--version'"),
        (["list", "--jsn"], "--json"),
        (["list", "modles"], "'models'"),
        (["list", "models", "slow_r50_8x9"], "'slow_r50_8x8'"),
        (["fit", "--experiment", "ava2micorg"], "'ava2microg'"),
        (["fit", "--experiment"], "--experiment"),
        ([], "COMMAND"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_slip_gives_one_line_and_exit_2(words, hint):
    done = start(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("microg_da: ")
    assert hint in done.stderr


def test_help_names_every_command():
    text = start("--help").stdout
    assert all(re.search(rf"^\s+{command}\s", text, flags=re.MULTILINE) for command in COMMANDS)


def test_a_closed_pipe_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m microg_da list models | head -n 1", shell=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("name")
    assert done.stderr == ""
