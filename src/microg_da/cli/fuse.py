"""`fuse`: combine the detections of several models into one calibrated file."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `fuse`."""
    parser.add_argument("--detections", nargs="+", required=True, metavar="CSV", help="one file per model")
    parser.add_argument(
        "--fit-detections",
        nargs="+",
        default=[],
        metavar="CSV",
        help="detections of the same models, in the same order, on the fit set",
    )
    parser.add_argument(
        "--fit-ground-truth", metavar="CSV", help="labels of the fit set, e.g. those of the validation split"
    )
    parser.add_argument(
        "--output", required=True, metavar="CSV", help="file for the fused detections; their scores are probabilities"
    )
    parser.add_argument("--method", help="fusion: mean, weighted (default with a fit set) or stack")
    parser.add_argument(
        "--calibrate", help="calibration: none, temperature, vector, prior, bbse or thresholds (default with a fit set)"
    )
    parser.add_argument(
        "--scores", help="kind of the input scores: logit or probability (default: as each file declares, else logit)"
    )
    parser.add_argument(
        "--taxonomy",
        default="microg50",
        help="microg50 (default), ava60, ava80, jhmdb21, a label map file or a folder of clips",
    )
    parser.add_argument("--json", action="store_true", help="print the fitted parameters as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Fuse, write the file, and print the fitted parameters."""
    from pathlib import Path

    from microg_da.data.annotations import read_annotations, read_detections, write_detections
    from microg_da.errors import InputError
    from microg_da.evaluation.fusion import fuse
    from microg_da.files import to_json
    from microg_da.taxonomy import get_taxonomy

    if bool(args.fit_detections) != bool(args.fit_ground_truth):
        raise InputError("fuse: --fit-detections and --fit-ground-truth need each other. Give both or neither.")
    names = [Path(path).name for path in args.detections]
    if len(set(names)) < len(names):
        names = list(args.detections)
    fused = fuse(
        [read_detections(path) for path in args.detections],
        fit_detections=[read_detections(path) for path in args.fit_detections],
        fit_ground_truth=read_annotations(args.fit_ground_truth) if args.fit_ground_truth else None,
        method=args.method,
        calibrate=args.calibrate,
        taxonomy=get_taxonomy(args.taxonomy),
        scores=args.scores,
        names=names,
    )
    write_detections(fused.detections, args.output)
    if args.json:
        print(to_json({"output": str(args.output), **fused.report}))
    else:
        from microg_da.reporting.score_tables import print_fusion

        print_fusion(fused.report, args.output)
    return 0
