"""What `--help` says of every command, and what a shell offers."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from microg_da.adaptation import ADAPTATIONS
from microg_da.cli import COMMANDS, _declare, _parse, completion
from microg_da.cli.completion import SHELLS, complete_key, run
from microg_da.cli.help import EXAMPLES
from microg_da.config import read_overrides, schema_keys
from microg_da.config.experiments import experiment_files, sweep_files


def declared(command):
    return _declare(command)[1][command]


def test_every_command_has_examples():
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_two_examples_that_can_be_parsed(command):
    examples = re.findall(r"^  python -m microg_da (.+)$", declared(command).format_help(), flags=re.MULTILINE)
    assert len(examples) == 2
    for example in examples:
        words = shlex.split(example.partition(" > ")[0].partition(" >> ")[0])
        assert words[0] == command
        args = _parse(words)
        read_overrides(args.overrides)
        assert getattr(args, "experiment", None) in (None, *experiment_files())
        assert getattr(args, "sweep", None) in (None, *sweep_files())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_default_and_what_a_number_counts(command):
    parser = declared(command)
    text = " ".join(parser.format_help().split())
    for action in parser._actions:
        if action.dest == "help":
            continue
        assert action.help, action.dest
        absent = action.default is None or action.default is False or action.default in ("", [], argparse.SUPPRESS)
        if not absent:
            assert (
                f"default: {action.default})" in text
                or f"{action.default} (default" in text
                or ("(default" in action.help)
            ), action.dest
        if action.type in (int, float):
            assert action.metavar, action.dest


def test_a_default_is_not_shown_twice():
    for command in COMMANDS:
        for line in re.split(r"\n  (?=-)", declared(command).format_help()):
            assert line.count("(default") <= 1, line


@pytest.mark.parametrize(
    ("prefix", "some"),
    [
        ("training.s", {"training.schedule=", "training.step_epochs="}),
        ("adap", {"adaptation=", "adaptation.lr="}),
        ("training.schedule=", {"training.schedule=cosine", "training.schedule=steps"}),
        ("bounds=", {"bounds=true", "bounds=false"}),
        ("adaptation=", {f"adaptation={name}" for name in ADAPTATIONS}),
        ("adaptation.test_time=", {"adaptation.test_time=roll_tta"}),
        ("data.source=", {"data.source=synthetic:earth", "data.source=ava:"}),
    ],
)
def test_keys_and_their_values_are_offered(prefix, some):
    assert some <= set(complete_key(prefix))


@pytest.mark.parametrize("prefix", ["training.epochs=", "no.key=", "seed=1"])
def test_nothing_is_offered_where_nothing_is_known(prefix):
    assert complete_key(prefix) == []


def test_every_key_is_offered():
    assert {f"{key}=" for key in schema_keys()} <= set(complete_key(""))


@pytest.mark.parametrize(
    ("line", "word"),
    [("microg_da fit --ex", "fit"), ("microg_da fit", None), ("microg_da ", None), ("microg_da list fit ", "list")],
)
def test_the_command_on_a_line(line, word, monkeypatch):
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert completion.word_at(COMMANDS) == word


def offered(line, tmp_path):
    """What the program answers a shell, as argcomplete's protocol has it."""
    file = tmp_path / "answer"
    environment = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(file),
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    program = "import sys; from microg_da.cli import main; sys.argv[0] = 'microg_da'; main()"
    command = [sys.executable, "-X", "importtime", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert not re.search(r"\|\s+torch$", done.stderr, flags=re.MULTILINE)
    return set(file.read_text().split("\n"))


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("microg_da ro", {"roll-response"}),
        ("microg_da fit --ex", {"--experiment"}),
        ("microg_da fit --experiment ava2", {"ava2microg", "ava2microg_full"}),
        ("microg_da fit --experiment ava2microg target_supervised.s", {"target_supervised.start="}),
        ("microg_da list ", {"models", "keys"}),
    ],
)
def test_the_program_answers_a_shell(line, some, tmp_path):
    assert some <= offered(line, tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_shell_is_given_is_its_language(shell, capsys, tmp_path):
    assert run(argparse.Namespace(shell=shell)) == 0
    script = capsys.readouterr().out
    assert "microg_da" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
