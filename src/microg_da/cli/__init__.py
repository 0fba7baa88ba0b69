"""The commands. Each is a short module here that calls one package.

A command module has ``add_arguments(parser)`` and ``run(args) -> int`` and imports what it needs inside
``run``, so that ``--help`` is instant. With ``ACCEPTS_OVERRIDES = True``, all arguments that the parser does not define
(``key=value``, ``--key=value``, ``--key value``) are stored in ``args.overrides``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NoReturn

from microg_da import __version__
from microg_da.cli import completion
from microg_da.cli.help import HelpFormatter, with_examples
from microg_da.errors import InputError, nearest, unknown_name
from microg_da.files import CANNOT_WRITE

COMMANDS = {
    "fit": "train on the source domain, adapt to the target domain, test on both and write a report",
    "test": "test the detectors of a run, or a checkpoint, on any data, with or without test-time methods",
    "predict": "predict the actions of people in a video, photograph or stream, and draw them",
    "ingest": "cut new footage into clips with tracked people for labelling",
    "checkpoint": "report which weights of a file load into a model, or which models fit a file",
    "export": "export a run's detector as safetensors with a model card, and as ONNX",
    "evaluate": "compute mAP, F1, recall and AUROC from detections and ground truth",
    "text-eval": "score captions and answers, with baselines that do not see the video",
    "report": "write the HTML report of a run",
    "temporal-window": "plot mAP over temporal windows: heat maps over T and τ, curves over seconds",
    "sweep": "run a hyperparameter sweep from a W&B sweep file, with Optuna or W&B agents",
    "compare": "compare runs by means over seeds and by paired differences",
    "roll-response": "test the detector of a run on clips from a rolled camera",
    "audit": "check a data set for errors and leaks, and describe it",
    "split": "divide clips into train, val and test splits by source video",
    "prepare": "prepare a training tree from a released data set",
    "weightless": "make a data set without gravity from Earth footage, with exact boxes and known up directions",
    "fuse": "fuse and calibrate the detections of several models",
    "list": "list models, adaptation methods, experiments, data sources or configuration keys",
    "config": "print the resolved configuration as YAML",
    "completion": "print the shell completion script for bash, zsh or fish",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 success, 2 invalid input, 130 interrupted, 143 terminated."""
    # Not list(…): after the import of the command `list`, that name refers to its module here.
    argv = [*(sys.argv[1:] if argv is None else argv)]
    if completion.is_asked_by_shell():
        _answer_shell()
    try:
        args = _parse(argv)
        return int(args.run(args))
    except InputError as error:
        print(f"microg_da: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"microg_da: {error or 'interrupted'}", file=sys.stderr)
        return getattr(error, "status", 130)
    except BrokenPipeError:
        # The reader of the pipe has closed it (`… | head`). This is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        print(f"microg_da: cannot use {error.filename or 'a file'}: {error.strerror}.", file=sys.stderr)
        return 2


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of one command with its arguments, for the documentation.

    Args:
        name: one of :data:`COMMANDS`.
    """
    return _declare(name)[1][name]


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, like all other errors in the input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. See `{self.prog} --help`.")

    @property
    def options(self) -> list[str]:
        """All options of this parser, e.g. ``--help``."""
        return [option for action in self._actions for option in action.option_strings]


def _parse(argv: list[str]) -> argparse.Namespace:
    chosen = next((word for word in argv if not word.startswith("-")), None)
    if chosen is not None and chosen not in COMMANDS:
        raise unknown_name("command", chosen, COMMANDS)
    parser, commands, module = _declare(chosen)
    if chosen is None and (unknown := [word for word in argv if word not in parser.options]):
        raise unknown_name("option", unknown[0], parser.options)
    args, rest = parser.parse_known_args(argv)
    args.overrides = rest
    if rest and not getattr(module, "ACCEPTS_OVERRIDES", False):
        guess = nearest(rest[0].split("=")[0], commands[args.command].options)
        hint = f" Did you mean {guess}?" if guess else f" See `python -m microg_da {args.command} --help`."
        raise InputError(f"{args.command}: unexpected argument {rest[0]!r}.{hint}")
    return args


def _declare(chosen: str | None) -> tuple[_Parser, dict[str, _Parser], ModuleType | None]:
    """Return the main parser, the parsers of all commands (arguments for the chosen one only), and its module."""
    parser = _Parser(prog="microg_da", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"microg_da {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    module: ModuleType | None = None
    for name, summary in COMMANDS.items():
        description = summary[0].upper() + summary[1:] + "."
        sub = commands.add_parser(
            name, help=summary, description=description, allow_abbrev=False, formatter_class=HelpFormatter
        )
        if name == chosen:
            module = import_module(f"microg_da.cli.{name.replace('-', '_')}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
            sub.epilog = with_examples(name, sub.epilog)
    return parser, commands.choices, module


def _answer_shell() -> None:
    """Print the completions of the line that a shell completes, and end the process."""
    chosen = completion.word_at(COMMANDS)
    parser, commands, module = _declare(chosen)
    accepts_keys = getattr(module, "ACCEPTS_OVERRIDES", False)
    completion.answer(parser, None if chosen is None else commands[chosen], accepts_keys)


_DESCRIPTION = "Earth-to-microgravity domain adaptation for human action detection."
