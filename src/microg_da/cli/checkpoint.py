"""`checkpoint`: compare a weight file with a network."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microg_da.models.detector import ActionDetector
    from microg_da.models.identify import KnownNetwork

SHOWN = 5
LEAST_SHARE = 0.01
"""Networks that share less with a file are not shown, because biases of equal length occur in all networks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `checkpoint`."""
    parser.add_argument(
        "file", help="a weight file (PyTorch, Caffe2 pickle or safetensors), a folder made by export, or package:NAME"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a name from `list models` (default: the name in the file, else all known networks are compared)",
    )
    parser.add_argument("--num-classes", type=int, default=50, metavar="N", help="number of classes of the head")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Print which weights load, are missing or do not fit; return 0 if a run can start from the file, else 1."""
    from microg_da.models import check_model_name
    from microg_da.models.packages import package_file, packaged
    from microg_da.models.weight_kinds import weight_kind
    from microg_da.registry import is_path

    package = packaged(args.file)
    if package is None:
        weight_kind(args.file)
    else:
        package_file(package)
    if args.model is not None:
        check_model_name(args.model, "--model")

    import torch

    from microg_da.models.create import create_detector
    from microg_da.models.description import DetectorDescription, read_description
    from microg_da.models.identify import known_networks

    model = f"timm:{package.encoder}" if package is not None and args.model is None else args.model
    stored = read_description(args.file) if model is None or is_path(model) else None
    if model is None and stored is None:
        return _print_networks(args, known_networks(args.file, args.num_classes))
    with torch.device("meta"):  # only names and shapes are compared
        if stored is None or model not in (None, stored.get("model")):
            return _print_report(args, create_detector(model, args.num_classes), model)
        description = DetectorDescription.from_dict(stored, args.file)
        return _print_report(args, description.build(model), description.model)


def _print_report(args: argparse.Namespace, detector: ActionDetector, name: str) -> int:
    from microg_da.files import to_json
    from microg_da.models.checkpoints import compare, settled_stride
    from microg_da.models.detector import AUTO_STRIDE

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


def _print_networks(args: argparse.Namespace, networks: list[KnownNetwork]) -> int:
    """Print the networks that a file fits best; return 0 if it fits one."""
    from microg_da.files import to_json

    fits = [network for network in networks if network.fits]
    if args.json:
        print(to_json({"path": args.file, "networks": [network.as_dict() for network in networks]}))
        return 0 if fits else 1
    from rich.table import Table

    from microg_da.terminal import output_console, print_table

    console = output_console()
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("network")
    for header in ("matching parameters", "of the network", "of the file", "loads"):
        table.add_column(header, justify="right", no_wrap=True)
    likely = [network for network in networks if network.share >= LEAST_SHARE] or networks[:1]
    for network in likely[: max(SHOWN, len(fits))]:
        shares = (f"{100 * share:.1f} %" for share in (network.of_network, network.of_file))
        loads = "yes" if network.fits else "no"
        table.add_row("\n".join(network.models), f"{network.fitting:,}", *shares, loads)
    if not fits:
        console.print(
            f"{args.file} fits no known network. The nearest by names and shapes of parameters:", soft_wrap=True
        )
    print_table(table, console)
    if fits:
        console.print(
            f"\n`checkpoint {args.file} --model {fits[0].models[0]}` shows which weights load.", soft_wrap=True
        )
    else:
        console.print(
            "\nNetworks of timm, torchvision and other packages are compared only if you name one: --model timm:NAME.",
            soft_wrap=True,
        )
    return 0 if fits else 1
