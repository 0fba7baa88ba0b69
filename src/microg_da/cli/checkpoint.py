"""`checkpoint`: how a weight file and a network go together."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `checkpoint`."""
    parser.add_argument("file", help="a weight file: PyTorch, Caffe2 pickle or safetensors, told by its content")
    parser.add_argument("--model", required=True, metavar="NAME", help="a name of `list models`")
    parser.add_argument("--num-classes", type=int, default=50, metavar="N", help="outputs of the head (default 50)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")


def run(args: argparse.Namespace) -> int:
    """Print what loads, what is new and what does not fit; 0 if a run could start from the file, else 1."""
    import torch

    from microg_da.files import to_json
    from microg_da.models.checkpoints import compare
    from microg_da.models.detector import create_detector

    with torch.device("meta"):  # names and shapes are all that is compared
        detector = create_detector(args.model, args.num_classes)
    _, report = compare(detector, args.file)
    if args.json:
        print(to_json(report.as_dict()))
    else:
        verdict = "fits" if report.fits else "does not fit"
        print(f"{args.file} {verdict} {args.model}: {report.loaded} entries load.")
        for line in (*report.notes, *report.problems()):
            print(f"  {line}")
    return 0 if report.fits else 1
