"""Two looks of the same world: ``real``, a video camera of a mission, and ``simulated``, a film.

``real`` has sensor noise, vignetting and compression. ``simulated`` has colour grading, strong contrast, hard light
from one side and little noise. Each scene has one look, and each frame has its own noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

# Quantiles of the normal distribution, which convert a random byte to a sample of noise.
_QUANTILES = np.sort(np.random.Generator(np.random.PCG64(0)).standard_normal(256 * 64)).reshape(256, 64).mean(1)

GREY = np.broadcast_to(np.array([0.299, 0.587, 0.114]), (3, 3))
"""Matrix that sets every channel to the luminance."""

GRADES = (
    ((14, 20, 30), (255, 240, 218)),
    ((18, 14, 26), (255, 236, 204)),
    ((10, 22, 20), (240, 255, 228)),
    ((12, 14, 34), (226, 238, 255)),
)
"""Colours of black and white in a film, as red, green, blue."""


@dataclass(frozen=True)
class Look:
    """Parameters of the look of a scene.

    Attributes:
        curve: ``(1, 256, 3)`` uint8, curves of tone and colour.
        saturation: factor of the saturation.
        vignette: relative loss of brightness in the corners.
        slope: ``(2,)`` change of brightness across and down the image.
        noise: standard deviation of sensor noise or grain, in grey levels.
        quality: JPEG quality, or None for clean pixels.
    """

    curve: np.ndarray
    saturation: float
    vignette: float
    slope: np.ndarray
    noise: float
    quality: int | None


def draw_look(rng: np.random.Generator, look: str) -> Look:
    """Draw the look of one scene."""
    tones = np.linspace(0.0, 1.0, 256)[:, None]
    if look == "real":
        white = 1.0 + rng.uniform(-0.07, 0.07, 3)
        curve = np.clip(tones ** rng.uniform(0.85, 1.1) * white * rng.uniform(0.92, 1.1), 0.0, 1.0) * 255.0
        slope = rng.uniform(-0.06, 0.06, 2)
        return Look(
            _curve(curve),
            rng.uniform(0.85, 1.0),
            rng.uniform(0.12, 0.3),
            slope,
            rng.uniform(5.0, 9.0),
            int(rng.integers(50, 72)),
        )
    black, white = np.array(GRADES[rng.integers(len(GRADES))], dtype=float)
    contrast = rng.uniform(0.35, 0.6)
    steep = tones * (1 - contrast) + contrast * (3 * tones**2 - 2 * tones**3)
    curve = black + (white - black) * steep
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.18, 0.32) * np.array([np.cos(angle), np.sin(angle)])
    return Look(_curve(curve), rng.uniform(1.1, 1.4), rng.uniform(0.25, 0.45), slope, rng.uniform(0.5, 1.3), None)


def finish(frames: np.ndarray, look: Look, rngs: list[np.random.Generator]) -> np.ndarray:
    """Apply a look to ``(T, H, W, 3)`` uint8 RGB with one random generator for each frame; return a new array."""
    _, height, width, _ = frames.shape
    colours = look.saturation * np.eye(3) + (1 - look.saturation) * GREY
    light = _light(height, width, look.vignette, *look.slope.tolist())
    grains = np.clip(np.rint(look.noise * _QUANTILES), -127, 127).astype(np.int8)
    finished = np.empty_like(frames)
    # Frames are processed one by one, because one frame fits into the processor's cache.
    for frame, rng, result in zip(frames, rngs, finished, strict=True):
        shot = cv2.multiply(cv2.transform(cv2.LUT(frame, look.curve), colours), light, dtype=cv2.CV_8U)
        grain = cv2.LUT(_random_bytes(rng, frame.size).reshape(frame.shape), grains)
        cv2.add(shot, grain, dst=result, dtype=cv2.CV_8U)
        if look.quality is not None:
            _compress(result, look.quality)
    return finished


def _random_bytes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the bytes of ``rng.bytes(count)`` of an unused generator, four times as fast."""
    words = rng.bit_generator.random_raw((count + 7) // 8)
    return words.astype("<u8", copy=False).view(np.uint8)[:count]


def _curve(values: np.ndarray) -> np.ndarray:
    curve: np.ndarray = np.clip(values, 0, 255).astype(np.uint8)[None]
    return curve


@lru_cache(maxsize=16)
def _light(height: int, width: int, vignette: float, slope_across: float, slope_down: float) -> np.ndarray:
    down, across = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    light = 1.0 - vignette * (down**2 + across**2) / 2 + slope_across * across + slope_down * down
    return np.repeat(light.astype(np.float32)[..., None], 3, axis=-1)


def _compress(frame: np.ndarray, quality: int) -> None:
    """Apply JPEG compression to a frame ``(H, W, 3)``, in place."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB, dst=frame)
