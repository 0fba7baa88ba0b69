"""`checkpoint`: how a weight file and a network go together."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microg_da.models.description import DetectorDescription


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `checkpoint`."""
    parser.add_argument(
        "file", help="a weight file: PyTorch, Caffe2 pickle or safetensors, a folder made by export, or package:NAME"
    )
    parser.add_argument("--model", metavar="NAME", help="a name of `list models`; our own files say it themselves")
    parser.add_argument("--num-classes", type=int, default=50, metavar="N", help="outputs of the head (default 50)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of sentences")


def run(args: argparse.Namespace) -> int:
    """Print what loads, what is new and what does not fit; 0 if a run could start from the file, else 1."""
    from microg_da.files import to_json
    from microg_da.models import check_model_name
    from microg_da.models.weight_kinds import weight_kind

    if not args.file.startswith("package:"):
        weight_kind(args.file)
    if args.model is not None:
        check_model_name(args.model, "--model")

    import torch

    from microg_da.models.checkpoints import compare, settled_stride
    from microg_da.models.create import create_detector
    from microg_da.models.detector import AUTO_STRIDE
    from microg_da.models.packages import packaged

    with torch.device("meta"):  # names and shapes are all that is compared
        if args.model is not None:
            detector, name = create_detector(args.model, args.num_classes), args.model
        elif package := packaged(args.file):
            name = f"timm:{package.encoder}"
            detector = create_detector(name, args.num_classes)
        else:
            description = _described(args.file)
            detector, name = description.build(), description.model
    stride, note = settled_stride(AUTO_STRIDE, args.file, detector)
    if note is not None:
        detector.head.stride = float(stride)
    _, report = compare(detector, args.file)
    if args.json:
        print(to_json(report.as_dict()))
    else:
        verdict = "fits" if report.fits else "does not fit"
        print(f"{args.file} {verdict} {name}: {report.loaded} entries load.")
        for line in (*report.notes, *report.warnings, *report.problems()):
            print(f"  {line}")
        if note is not None:
            print(f"  {note}. predict --roi-stride and fit model.roi_stride change it.")
    return 0 if report.fits else 1


def _described(file: str) -> DetectorDescription:
    """What one of our own files says of its detector."""
    from microg_da.errors import InputError
    from microg_da.models.description import DetectorDescription, read_description

    said = read_description(file)
    if said is None:
        raise InputError(f"{file}: the file does not say which network it is of. Add --model NAME; see `list models`.")
    return DetectorDescription.from_dict(said, file)
