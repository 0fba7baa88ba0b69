"""Drawing of many clips in one or several processes, without torch, so that processes start quickly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import cv2
import numpy as np
from joblib import Parallel, delayed

from microg_da.synthetic.render import render_clip
from microg_da.synthetic.spec import SyntheticSpec
from microg_da.terminal import message_console, progress_bar

CHUNK = 20
"""Minimum number of clips that a worker draws at once. Fewer clips do not need a second process."""


def draw_clips(spec: SyntheticSpec, *, workers: int = 2, progress: bool = False) -> dict[str, np.ndarray]:
    """Draw all clips of a specification.

    Returns:
        ``frames`` ``(N, 3, T, H, W)`` uint8; for the P people of all clips ``boxes`` ``(P, 4)`` float32 in [0, 1],
        ``clips`` ``(P,)`` ascending indices of their clips, and ``labels`` ``(P, 81)`` uint8 with a column for each AVA
        id.
    """
    frames = np.empty((spec.num_clips, 3, spec.num_frames, spec.size, spec.size), np.uint8)
    boxes: list[np.ndarray] = [np.empty((0, 4))] * spec.num_clips
    ids: list[tuple[tuple[int, ...], ...]] = [()] * spec.num_clips
    console = message_console()
    console.quiet = not progress
    with progress_bar(console) as bar:
        task = bar.add_task(f"drawing {spec.domain} {spec.split}", total=spec.num_clips)
        for chunk, drawn, chunk_boxes, chunk_ids in _drawn_chunks(spec, workers):
            frames[chunk] = drawn
            for index, clip_boxes, clip_ids in zip(chunk, chunk_boxes, chunk_ids, strict=True):
                boxes[index], ids[index] = clip_boxes, clip_ids
            bar.advance(task, len(chunk))
    people = [actions for clip in ids for actions in clip]
    labels = np.zeros((len(people), 81), np.uint8)
    for row, actions in enumerate(people):
        labels[row, list(actions)] = 1
    return {
        "frames": frames,
        "boxes": np.concatenate([np.empty((0, 4)), *boxes]).astype(np.float32),
        "clips": np.repeat(np.arange(spec.num_clips), [len(clip) for clip in ids]),
        "labels": labels,
    }


_Chunk = tuple[list[int], np.ndarray, list[np.ndarray], list[tuple[tuple[int, ...], ...]]]


def _drawn_chunks(spec: SyntheticSpec, workers: int) -> Iterator[_Chunk]:
    chunks = _chunks(spec)
    if workers <= 1 or len(chunks) < 2:
        yield from (_draw_chunk(spec, chunk) for chunk in chunks)
        return
    # joblib starts new processes, because a fork would copy the locks of torch's and OpenCV's threads. Unlike processes
    # of multiprocessing, they do not run the user's script, which therefore needs no __main__ guard.
    pool = Parallel(n_jobs=min(workers, len(chunks)), return_as="generator_unordered", max_nbytes=None)
    yield from pool(delayed(_draw_chunk_alone)(spec, chunk) for chunk in chunks)


def _chunks(spec: SyntheticSpec) -> list[list[int]]:
    """Return chunks of complete scenes, so that the walls of each scene are painted once in one process."""
    chunks: list[list[int]] = []
    names = {index: spec.name(index) for index in range(spec.num_clips)}
    for _, scene in groupby(sorted(names, key=names.__getitem__), key=lambda index: names[index].source_video):
        if not chunks or len(chunks[-1]) >= CHUNK:
            chunks.append([])
        chunks[-1].extend(scene)
    return chunks


def _draw_chunk_alone(spec: SyntheticSpec, chunk: Sequence[int]) -> _Chunk:
    cv2.setNumThreads(1)
    return _draw_chunk(spec, chunk)


def _draw_chunk(spec: SyntheticSpec, chunk: Sequence[int]) -> _Chunk:
    frames = np.empty((len(chunk), 3, spec.num_frames, spec.size, spec.size), np.uint8)
    boxes, ids = [], []
    for index, planes in zip(chunk, frames, strict=True):
        clip = render_clip(spec, index)
        cv2.split(clip.frames.reshape(-1, spec.size, 3), list(planes.reshape(3, -1, spec.size)))
        boxes.append(clip.boxes)
        ids.append(clip.action_ids)
    return list(chunk), frames, boxes, ids
