"""`predict` for a camera or a stream."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from microg_da.errors import InputError

if TYPE_CHECKING:
    from microg_da.video.action_scorer import ActionScorer
    from microg_da.video.predict import PredictOptions
    from microg_da.video.stream import Answer


def check(args: argparse.Namespace) -> None:
    """Check that the options are valid for a stream.

    Raises:
        InputError: for an option that a stream does not support.
    """
    if len(args.video) > 1:
        raise InputError("predict: only one camera or stream can be read at a time. Give one --video.")
    if args.boxes is not None:
        raise InputError("predict: --boxes does not apply to a stream. Give --person-detector yolox.onnx.")
    if args.video_format not in ("mp4", "none"):
        raise InputError(f"--video-format {args.video_format}: no video is written for a stream. Remove the option.")
    if (Path(args.output) / "detections.csv").exists():
        raise InputError(f"--output {args.output}: the folder already contains detections. Choose another folder.")


def run(args: argparse.Namespace, every: float, smooth: float, make_scorer: Callable[[], ActionScorer]) -> int:
    """Print the predicted actions until the stream ends or Ctrl-C is pressed."""
    import threading

    from microg_da.terminal import message_console
    from microg_da.video.live_source import LiveSource
    from microg_da.video.person_detector import create_person_detector
    from microg_da.video.predict import PredictOptions
    from microg_da.video.stream import interrupt_stops, predict_stream

    console = message_console()
    options = PredictOptions(every=every, threshold=args.threshold, smooth=smooth, video_format="none")
    detector = create_person_detector(args.person_detector, args.person_threshold, args.roll_search)
    scorer = make_scorer()
    for note in scorer.notes:
        console.print(note, highlight=False, markup=False)
    names = [name.split(" (")[0] for name in scorer.taxonomy.names]
    source = LiveSource(args.video[0])  # opened last, because an open camera delivers frames at once
    console.print(f"{source.name}: press Ctrl-C to stop", highlight=False, markup=False)
    stop = threading.Event()
    with interrupt_stops(stop):
        facts = predict_stream(
            source,
            detector,
            scorer,
            options,
            Path(args.output),
            stop=stop,
            show=lambda answer: _print(answer, names, options),
        )
    console.print(
        f"{facts.seconds:.1f} s, {facts.frames} frames, {facts.dropped} dropped, {facts.keyframes} keyframes, "
        f"{facts.persons} people",
        highlight=False,
    )
    if facts.keyframes:
        console.print(f"latency: {facts.since_window} after the last frame of a window", highlight=False)
        console.print(f"         {facts.since_keyframe} after the keyframe", highlight=False)
    for fault in facts.faults:
        console.print(f"[yellow]note[/yellow] {fault}", highlight=False)
    console.print(f"detections: {Path(args.output) / 'detections.csv'}", highlight=False, markup=False)
    return 0


def _print(answer: Answer, names: list[str], options: PredictOptions) -> None:
    """Print one line for each person at a keyframe."""
    import numpy as np

    for person, row in zip(answer.person_id.tolist(), answer.probabilities, strict=True):
        best = [column for column in np.argsort(-row, kind="stable")[: options.top] if row[column] >= options.threshold]
        actions = ", ".join(f"{names[column]} {100 * row[column]:.0f} %" for column in best) or "–"
        print(f"{answer.seconds:8.2f} s  person {person:<3d} {actions}", flush=True)
