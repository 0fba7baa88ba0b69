"""Stick figures for tests of up: a trunk, two legs and a head in any colours, over a scene that says nothing of up."""

import math

import cv2
import numpy as np
import torch

from microg_da.data.batches import collate_clips
from microg_da.types import Clip, ClipKey

SIZE = 64


def figure(degrees, rng, size=SIZE, arm=None):
    """A frame ``(size, size, 3)`` and the box of a figure whose up is turned clockwise by ``degrees``."""
    noise = rng.uniform(40, 120, (8, 8, 3)).astype(np.float32)
    frame = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    up = np.array([math.sin(math.radians(degrees)), -math.cos(math.radians(degrees))])
    side = np.array([-up[1], up[0]])
    middle = size / 2 + rng.uniform(-4, 4, 2)
    head, feet = middle + 16 * up, middle - 16 * up

    def place(point):
        return round(float(point[0])), round(float(point[1]))

    def colour():
        return rng.uniform([0, 0, 130], 255).tolist()  # never yellow, which is for arms

    cv2.line(frame, place(head), place(feet), colour(), 6)
    legs = colour()
    for sign in (-1, 1):
        cv2.line(frame, place(feet + 12 * up), place(feet + sign * 10 * side), legs, 4)
    if arm is not None:
        cv2.line(frame, place(middle + 6 * up), place(middle + 6 * up + arm * 12 * side), (240, 240, 40), 4)
    cv2.circle(frame, place(head), 8, colour(), -1)
    points = np.stack([head, feet, feet + 10 * side, feet - 10 * side, head + 8 * up])
    low, high = points.min(0) - 4, points.max(0) + 4
    return frame.clip(0, 255).astype(np.uint8), torch.tensor([*low, *high], dtype=torch.float32).clamp(0, size)


def clips(angles, *, seed=0, domain="target", arms=None, name="v", length=2):
    """One batch of a clip for each angle, one person in each."""
    rng = np.random.default_rng(seed)
    made = []
    for index, degrees in enumerate(angles):
        frame, box = figure(degrees, rng, arm=None if arms is None else arms[index])
        frames = torch.from_numpy(frame).permute(2, 0, 1)[:, None].repeat(1, length, 1, 1)
        clip = Clip(frames, box[None], box[None] / SIZE, ClipKey(f"{name}_{index}", 1))
        made.append(clip if domain == "target" else clip.with_labels(torch.zeros(1, 2)))
    return collate_clips(made, domain)
