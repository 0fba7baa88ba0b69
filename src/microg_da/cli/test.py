"""`test`: test the detectors of a run, or the detector in a file, on any data, with test-time methods."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from microg_da.adaptation.choice import MethodChoice

ACCEPTS_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `test`."""
    parser.add_argument("--run", dest="run_folder", metavar="RUN", help="a run folder, runs/<experiment>/<name>")
    parser.add_argument(
        "--variant", metavar="NAME", help="variant of the run: source_only, adapted or target_supervised (default: all)"
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="a run's detector.pt, a folder made by export, or a published weight file"
    )
    parser.add_argument("--model", metavar="NAME", help="the network of a published weight file; see `list models`")
    parser.add_argument(
        "--data", metavar="SOURCE", help="data to test on; see `list data` (default: the target of the run)"
    )
    parser.add_argument("--split", default="test", metavar="NAME", help="split to test on: train, val or test")
    parser.add_argument(
        "--method",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="test-time methods to test as well, e.g. roll_tta or 'roll_tta?rolls=4&combine=logits'",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="folder for the results (default: tests/<data>-<split>/ in the run folder)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Test, print the table and write the results."""
    # `--method A B key=value`: words that are no methods are keys.
    is_key = ["=" in word.partition("?")[0] for word in args.method]
    args.overrides += [word for word, key in zip(args.method, is_key, strict=True) if key]
    args.method = [word for word, key in zip(args.method, is_key, strict=True) if not key]
    methods = _check(args)
    # Torch is imported from here on; all checks that do not need it are done.
    from functools import partial

    from microg_da.allocator import keep_freed_memory
    from microg_da.files import to_json
    from microg_da.reporting.detector_tests import detector_test_table, write_detector_test
    from microg_da.terminal import message_console, output_console, print_table
    from microg_da.training.candidates import score_file, score_run

    keep_freed_memory()
    console = message_console()
    if args.run_folder is not None:
        score = partial(score_run, args.run_folder, args.data, variant=args.variant)
    else:
        score = partial(score_file, args.checkpoint, args.data, model=args.model)
    found = score(split=args.split, methods=methods, overrides=args.overrides, console=console)
    for note in found.notes:
        console.print(f"[yellow]note[/yellow] {note}", highlight=False, soft_wrap=True)
    folder = write_detector_test(found, _output(args, found.data))
    if args.json:
        print(to_json(found.as_dict()))
    else:
        print_table(detector_test_table(found), output_console())
    console.print(f"results: {folder.resolve()}", markup=False, soft_wrap=True, highlight=False)
    return 0


def _check(args: argparse.Namespace) -> list[MethodChoice]:
    """Check the options, and return the methods."""
    from pathlib import Path

    from microg_da.adaptation.choice import parse_method
    from microg_da.config import read_overrides
    from microg_da.data.options import parse_source
    from microg_da.errors import InputError, unknown_name
    from microg_da.models import check_model_name
    from microg_da.models.weight_kinds import weight_kind
    from microg_da.types import SPLITS, VARIANTS
    from microg_da.video.inputs import check_output

    if (args.run_folder is None) == (args.checkpoint is None):
        raise InputError("test: a detector is needed. Give either --run RUN or --checkpoint FILE.")
    if args.split not in SPLITS:
        raise unknown_name("split", args.split, SPLITS, where="--split")
    if args.run_folder is not None:
        if args.model is not None:
            raise InputError("test: --model applies to --checkpoint only. A run has its own model; remove --model.")
        if not (Path(args.run_folder) / "config.yaml").is_file():
            raise InputError(
                f"{args.run_folder} is not a run folder: it has no config.yaml. Give a folder runs/<experiment>/<name>."
            )
    else:
        weight_kind(args.checkpoint)
        if args.data is None or args.output is None:
            missing = "--data SOURCE" if args.data is None else "--output FOLDER"
            raise InputError(f"test: --checkpoint needs {missing}")
    if args.variant is not None and (args.checkpoint is not None or args.variant not in VARIANTS):
        raise unknown_name("variant of a run", args.variant, VARIANTS, where="--variant")
    if args.model is not None:
        check_model_name(args.model, "--model")
    if args.data is not None:
        parse_source(args.data)
    read_overrides(args.overrides)
    if args.output is not None:
        check_output(args.output)
    return [parse_method(text, where="--method") for text in args.method]


def _output(args: argparse.Namespace, data: str) -> Path:
    import re
    from pathlib import Path

    if args.output is not None:
        return Path(args.output)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{data}-{args.split}").strip("-")
    return Path(args.run_folder) / "tests" / name
