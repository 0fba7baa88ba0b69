"""`compare --detections`: compare sets of detections on the same ground truth."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `compare` for detections."""
    group = parser.add_argument_group("detections instead of runs")
    group.add_argument("--detections", nargs="+", metavar="CSV", help="one file per model")
    group.add_argument("--ground-truth", metavar="CSV", help="labels for all of the files")
    group.add_argument("--metric", default="map", help="map (default), f1_macro, recall_macro or auroc_macro")
    group.add_argument("--protocol", default="corrected", help="protocol: published or corrected (default)")
    group.add_argument(
        "--scores", help="kind of the scores: logit or probability (default: as each file declares, else logit)"
    )
    group.add_argument(
        "--taxonomy",
        default="microg50",
        help="microg50 (default), ava60, ava80, jhmdb21, a label map file or a folder of clips",
    )
    group.add_argument(
        "--cluster", default="source", help="unit of resampling: source (default, by source video) or keyframe"
    )
    group.add_argument(
        "--resamples",
        type=int,
        metavar="N",
        default=2000,
        help="number of resamples of the bootstrap and the permutation test (default: 2000)",
    )
    group.add_argument("--seed", type=int, metavar="N", default=0, help="seed of both (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Print the ranking and the paired differences, or one JSON object."""
    from pathlib import Path

    from microg_da.data.annotations import read_annotations, read_detections
    from microg_da.errors import InputError
    from microg_da.evaluation.paired_comparison import compare
    from microg_da.files import to_json

    if not args.ground_truth:
        raise InputError("compare: --detections needs labels. Add --ground-truth CSV.")
    if args.resamples < 1:
        raise InputError("compare: --resamples must be 1 or more")
    if args.labels is not None and len(args.labels) != len(args.detections):
        raise InputError(f"compare: {len(args.labels)} --labels for {len(args.detections)} files of detections.")
    names = args.labels or [Path(path).name.removesuffix(".gz").removesuffix(".csv") for path in args.detections]
    if len(set(names)) < len(names):
        names = list(args.detections)
    found = compare(
        {name: read_detections(path) for name, path in zip(names, args.detections, strict=True)},
        read_annotations(args.ground_truth),
        metric=args.metric,
        protocol=args.protocol,
        taxonomy=args.taxonomy,
        scores=args.scores,
        cluster_by=args.cluster,
        resamples=args.resamples,
        seed=args.seed,
    )
    if args.json:
        answer = {
            "metric": found.metric,
            "num_clusters": found.num_clusters,
            "models": found.models.to_dict("records"),
            "pairs": found.pairs.to_dict("records"),
        }
        print(to_json(answer))
    else:
        from microg_da.reporting.score_tables import print_comparison

        print_comparison(found)
    return 0
