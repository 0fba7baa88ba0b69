"""The commands. Each is a short module here that calls one package.

A command module has ``add_arguments(parser)`` and ``run(args) -> int`` and imports what it needs inside
``run``, so that ``--help`` is instant. With ``ACCEPTS_OVERRIDES = True`` everything the parser does not know
(``key=value``, ``--key=value``, ``--key value``) arrives in ``args.overrides``.
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
    "fit": "train on the source domain, adapt to the target domain, test both, write a report",
    "test": "test a run's detectors or a checkpoint on any data, with test-time methods",
    "predict": "predict the actions of people in a video, photograph or stream, and draw them",
    "ingest": "cut new footage into clips with tracked people for labelling",
    "checkpoint": "report which weights of a file fit a model, or which models fit a file",
    "export": "export a run's detector as safetensors with a model card, and as ONNX",
    "evaluate": "compute mAP, F1, recall and AUROC from detections and ground truth",
    "text-eval": "score captions and answers, with baselines that do not see the video",
    "report": "write the HTML report of a run",
    "temporal-window": "plot mAP over temporal windows: heat maps over T and τ, curves over seconds",
    "sweep": "run a hyperparameter sweep from a W&B sweep file, with Optuna or W&B agents",
    "compare": "compare runs: means over seeds, paired differences",
    "roll-response": "test a run's detector under rolled cameras",
    "audit": "check a data set for errors and leaks, and describe it",
    "split": "divide clips into train, val and test splits by source video",
    "prepare": "prepare a training tree from a released data set",
    "weightless": "make a data set without gravity from Earth footage, with exact boxes and known up",
    "fuse": "fuse and calibrate the detections of several models",
    "list": "list models, adaptation methods, experiments, data sources, configuration keys",
    "config": "print the resolved configuration as YAML",
    "completion": "print the shell completion script for bash, zsh or fish",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 2 bad input, 130 or 143 interrupted or terminated."""
    # Not list(…): once the command of this name is imported, `list` is its module here.
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
        # The reader of a pipe has gone (`… | head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        print(f"microg_da: cannot use {error.filename or 'a file'}: {error.strerror}.", file=sys.stderr)
        return 2


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command with its arguments, for pages that show them.

    Args:
        name: one of :data:`COMMANDS`.
    """
    return _declare(name)[1][name]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of the input."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. See `{self.prog} --help`.")

    @property
    def options(self) -> list[str]:
        """Every option this parser knows, e.g. ``--help``."""
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
    """The parser, those of all commands, and the module of the chosen one, which alone declares its arguments."""
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
    """Say how the line that a shell completes can go on; ends the process."""
    chosen = completion.word_at(COMMANDS)
    parser, commands, module = _declare(chosen)
    accepts_keys = getattr(module, "ACCEPTS_OVERRIDES", False)
    completion.answer(parser, None if chosen is None else commands[chosen], accepts_keys)


_DESCRIPTION = "Earth-to-microgravity domain adaptation for human action detection."
