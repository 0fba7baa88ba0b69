"""`predict`: write detections of videos or stills, and pictures with the detections drawn on them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from microg_da.video.action_scorer import ActionScorer
    from microg_da.video.box_sources import BoxSource
    from microg_da.video.reader import Video

_DECISIVE = ("boxes", "person_detector", "person_threshold", "roll_search", "taxonomy", "short_side")
"""Arguments that affect the results, in addition to those in the options and the name of the detector."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `predict`."""
    parser.add_argument(
        "--run",
        dest="run_folder",
        metavar="RUN",
        help="a run folder; videos are preprocessed like the test split of the run",
    )
    parser.add_argument(
        "--variant",
        "--row",
        metavar="NAME",
        help="variant of the run: source_only, adapted (default) or target_supervised",
    )
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="a run's detector.pt, a folder made by export, or a published weight file"
    )
    parser.add_argument("--model", metavar="NAME", help="the network of a published weight file; see `list models`")
    parser.add_argument("--taxonomy", default="microg50", help="classes of a published weight file (microg50)")
    parser.add_argument(
        "--roi-stride",
        default="auto",
        metavar="true|published|NUMBER",
        help="RoI stride of a published weight file, in pixels; auto: the stride at which its head was trained",
    )
    parser.add_argument(
        "--video",
        "--image",
        dest="video",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE|FOLDER",
        help="videos, photographs or folders of them; the number of a camera; or the URL of a stream",
    )
    parser.add_argument("--live", action="store_true", help="process the video in real time, like a camera stream")
    parser.add_argument(
        "--boxes", metavar="CSV", help="boxes of people: video_id,seconds,x1,y1,x2,y2[,person_id], in [0, 1]"
    )
    parser.add_argument(
        "--person-detector",
        "--detector",
        metavar="ONNX",
        help="a YOLOX network, as an ONNX file, that finds people in place of --boxes",
    )
    parser.add_argument(
        "--person-threshold",
        type=float,
        metavar="PROBABILITY",
        default=0.4,
        help="lowest score of a detected person (0.4)",
    )
    parser.add_argument(
        "--roll-search",
        nargs="?",
        const="adaptive",
        metavar="N",
        help="detect people in N rolled copies of the frame and draw their up (without N: 4 to 8, as needed)",
    )
    parser.add_argument("--every", default="0.5s", metavar="SECONDS", help="time between keyframes (0.5s)")
    parser.add_argument(
        "--threshold", type=float, metavar="PROBABILITY", default=0.2, help="lowest probability of a drawn action (0.2)"
    )
    parser.add_argument(
        "--smooth", default="1s", metavar="SECONDS", help="duration over which the scores of a person are averaged (1s)"
    )
    parser.add_argument(
        "--video-format", default="mp4", help="mp4 (default), gif (first 20 seconds) or none; stills are JPEG or none"
    )
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="short side of the detector's input frames (default: that of the test split)",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", default=8, help="windows scored at once (8)")
    parser.add_argument("--device", default="auto", help="auto (default: the device of the run), cpu, cuda, cuda:1, …")
    parser.add_argument(
        "--output", required=True, metavar="FOLDER", help="folder for detections.csv and one subfolder per file"
    )


def run(args: argparse.Namespace) -> int:
    """Predict, and print a summary."""
    from pathlib import Path

    from microg_da.cli import predict_live
    from microg_da.video.live_source import is_live

    every, smooth = _check_options(args)
    if args.live or any(map(is_live, args.video)):
        predict_live.check(args)
        _check_files(args)
        return predict_live.run(args, every, smooth, lambda: _scorer(args))
    paths = _input_files(args.video)
    _check_files(args)

    # Torch is imported from here on; all checks that do not need it are done.
    from microg_da.allocator import keep_freed_memory
    from microg_da.terminal import message_console, output_console
    from microg_da.video.folder import predict_videos, print_summary
    from microg_da.video.predict import PredictOptions

    keep_freed_memory()
    options = PredictOptions(every=every, threshold=args.threshold, smooth=smooth, video_format=args.video_format)
    boxes_of = _box_sources(args, [path.stem for path in paths], options.every)
    scorer = _scorer(args)
    settings = {name: getattr(args, name) for name in _DECISIVE}
    settings |= {"roi_stride": scorer.predictor.detector.head.stride}
    console = message_console()
    for note in scorer.notes:
        console.print(note, highlight=False, markup=False)
    done = predict_videos(paths, boxes_of, scorer, options, args.output, settings=settings, console=console)
    searched = args.boxes is not None or args.roll_search is not None
    print_summary(
        done, output_console(), "" if searched else "--roll-search also finds people who float sideways or head down."
    )
    print(f"detections of {len(done)} file{'s' * (len(done) != 1)}: {Path(args.output) / 'detections.csv'}")
    return 0


def _check_options(args: argparse.Namespace) -> tuple[float, float]:
    """Check the options, and return the seconds of ``--every`` and ``--smooth``."""
    from microg_da.errors import InputError, unknown_name
    from microg_da.models import check_model_name
    from microg_da.taxonomy import get_taxonomy
    from microg_da.video.writer import VIDEO_FORMATS

    if args.video_format not in VIDEO_FORMATS:
        raise unknown_name("video format", args.video_format, VIDEO_FORMATS, where="--video-format")
    if not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold {args.threshold}: expected a number in [0, 1]")
    if args.batch_size < 1:
        raise InputError(f"--batch-size {args.batch_size}: must be 1 or more")
    if args.short_side is not None and args.short_side < 16:
        raise InputError(f"--short-side {args.short_side}: must be 16 or more")
    if (args.boxes is None) == (args.person_detector is None):
        raise InputError(
            "predict: positions of people are needed. Give either --boxes CSV or --person-detector yolox.onnx."
        )
    if args.boxes is not None and args.roll_search is not None:
        raise InputError(
            "predict: --roll-search rotates frames for --person-detector and cannot be combined with --boxes"
        )
    if (args.run_folder is None) == (args.checkpoint is None):
        raise InputError("predict: a detector is needed. Give either --run RUN or --checkpoint FILE.")
    if args.run_folder is not None:
        for name, given in (("--model", args.model is not None), ("--roi-stride", args.roi_stride != "auto")):
            if given:
                raise InputError(
                    f"predict: {name} applies to --checkpoint only. A run has its own model; remove {name}."
                )
    if args.model is not None:
        check_model_name(args.model, "--model")
    get_taxonomy(args.taxonomy)
    args.roi_stride = _roi_stride(args.roi_stride)
    return _seconds(args.every, "--every", least=1 / 30), _seconds(args.smooth, "--smooth", least=0.0)


def _roi_stride(text: str) -> str | float:
    from microg_da.errors import InputError

    if text in ("auto", "true", "published"):
        return text
    try:
        stride = float(text)
    except ValueError:
        stride = float("nan")
    if not 1 <= stride <= 1024:
        raise InputError(f"--roi-stride {text}: expected true, published or a number of pixels from 1 to 1024")
    return stride


def _input_files(given: list[str]) -> list[Path]:
    """Return the named videos and stills, and those in the named folders."""
    from microg_da.data.frames import VIDEO_SUFFIXES
    from microg_da.video.inputs import IMAGE_SUFFIXES
    from microg_da.video.reader import check_names, find_video_files
    from microg_da.video.stills import open_input

    paths = [path for each in given for path in find_video_files(each, (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES))]
    check_names(paths)
    if len(paths) == 1:
        open_input(paths[0])
    return paths


def _check_files(args: argparse.Namespace) -> None:
    """Check the weight file, the run, the person detector and the output folder."""
    from pathlib import Path

    from microg_da.errors import InputError
    from microg_da.models.weight_kinds import weight_kind
    from microg_da.video.inputs import check_output, check_person_detector

    if args.checkpoint is not None:
        weight_kind(args.checkpoint)
    elif not (Path(args.run_folder) / "config.yaml").is_file():
        raise InputError(
            f"{args.run_folder} is not a run folder: it has no config.yaml. Give a folder runs/<experiment>/<name>."
        )
    if args.person_detector is not None:
        check_person_detector(args.person_detector)
    elif not Path(args.boxes).is_file():
        raise InputError(f"{args.boxes}: the file does not exist. Give a CSV of boxes.")
    check_output(args.output)


def _box_sources(args: argparse.Namespace, video_ids: list[str], every: float) -> Callable[[Video], BoxSource]:
    """Return the function that creates the box source of a file."""
    from microg_da.video.box_sources import DetectorBoxes, StillBoxes, TableBoxes, boxes_of_still, read_box_table
    from microg_da.video.person_detector import create_person_detector
    from microg_da.video.stills import Still

    if args.boxes is not None:
        table = read_box_table(args.boxes, video_ids)

        def listed(video: Video) -> BoxSource:
            boxes = table[table.video_id == video.video_id]
            return TableBoxes(boxes_of_still(boxes, video.path) if isinstance(video, Still) else boxes, every, video)

        return listed
    find = create_person_detector(args.person_detector, args.person_threshold, args.roll_search)
    return lambda video: StillBoxes(find) if isinstance(video, Still) else DetectorBoxes(find, every)


def _scorer(args: argparse.Namespace) -> ActionScorer:
    from dataclasses import replace

    from microg_da.errors import InputError
    from microg_da.inference.trainer import on_device, resolve_device
    from microg_da.video.detector_loading import scorer_of_file, scorer_of_run

    if args.run_folder is not None:
        scorer = scorer_of_run(args.run_folder, args.variant)
    else:
        scorer = scorer_of_file(args.checkpoint, args.model, taxonomy=args.taxonomy, roi_stride=args.roi_stride)
    try:
        hardware = on_device(scorer.hardware, args.device)
        resolve_device(hardware)
    except InputError as error:
        raise InputError(f"--device {args.device}: {error}. Choose another device, e.g. --device cpu.") from error
    return replace(
        scorer, hardware=hardware, batch_size=args.batch_size, short_side=args.short_side or scorer.short_side
    )


def _seconds(text: str, option: str, least: float) -> float:
    """Parse a duration in seconds, such as ``0.5s`` or ``0.5``."""
    from microg_da.errors import InputError

    try:
        seconds = float(text.strip().removesuffix("s"))
    except ValueError:
        seconds = float("nan")
    if not least - 1e-9 <= seconds <= 3600:
        raise InputError(f"{option} {text}: expected seconds, such as 0.5s, from {least:.2g} to 3600")
    return seconds
