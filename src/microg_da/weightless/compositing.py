"""Compositing of people onto another background with soft edges, matched colours and common light."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from microg_da.transforms.camera import warp

MATCH = 0.35
"""Strength of the colour match of people to the background; 1 for equal mean colours."""

GAINS = (0.65, 1.35)
"""Minimum and maximum factor of a colour channel."""

SHADE = 0.6
"""Strength with which the variation of the background's light is applied to people."""

FADE = 0.03
"""Width of the fading border, in heights of the frame, for a person at the border of the original frame."""

GRAIN = 2.0
"""Standard deviation of the common noise of people and background, in levels of 255."""

_KEPT = 0.7


@dataclass(frozen=True)
class Lighting:
    """The light of a scene.

    Attributes:
        gain: overall brightness.
        tint: ``(3,)`` factors of blue, green and red.
        slope: ``(2,)`` relative change of brightness from the middle to the right and lower side.
        vignette: relative loss of brightness in the corners.
    """

    gain: float
    tint: tuple[float, float, float]
    slope: tuple[float, float]
    vignette: float

    def field(self, height: int, width: int) -> np.ndarray:
        """Return the factor of every pixel, ``(height, width, 3)`` float32."""
        down, right = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        bright = 1 + self.slope[0] * right + self.slope[1] * down
        bright = bright * (1 - self.vignette * (right**2 + down**2) / 2)
        return np.asarray((self.gain * bright)[..., None] * np.array(self.tint), np.float32)


def draw_lighting(rng: np.random.Generator) -> Lighting:
    """Draw random light."""
    warm = rng.normal(0.0, 0.04)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.3)
    return Lighting(
        gain=float(rng.uniform(0.6, 1.05)),
        tint=(float(1 - warm), 1.0, float(1 + warm)),
        slope=(float(strength * np.cos(angle)), float(strength * np.sin(angle))),
        vignette=float(rng.uniform(0.0, 0.3)),
    )


def cut_out(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cut a person out of the background, with soft edges in the colours of the person.

    The outermost pixels of the mask are removed, because they contain background. Edge pixels get the colours of the
    pixels inside.

    Args:
        image: uint8 ``(H, W, 3)``.
        mask: ``(H, W)`` bool.

    Returns:
        uint8 ``(H, W, 4)``: colours multiplied by opacity, and the opacity.
    """
    height, width = mask.shape
    radius = max(1, round(height / 240))
    layer = np.zeros((height, width, 4), np.uint8)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return layer
    room = 4 * radius  # maximum distance of the soft edge from the mask
    top, left = max(rows[0] - room, 0), max(columns[0] - room, 0)
    here = np.s_[top : rows[-1] + 1 + room, left : columns[-1] + 1 + room]
    solid = _solid(mask[here].astype(np.uint8), radius)
    soft = cv2.GaussianBlur(solid * np.float32(1), (0, 0), 0.8 * radius) * _border_ramp(height, width)[here]
    near = cv2.GaussianBlur(image[here] * (solid * np.float32(1))[..., None], (0, 0), 1.2 * radius)
    share = cv2.GaussianBlur(solid * np.float32(1), (0, 0), 1.2 * radius)
    edge = (solid == 0) & (share > 1e-3)
    colours = image[here].copy()
    colours[edge] = near[edge] / share[edge][:, None]
    layer[here] = cv2.merge([*(channel * soft for channel in cv2.split(colours)), 255 * soft]).round()
    return layer


def _solid(whole: np.ndarray, radius: int) -> np.ndarray:
    """Remove the outermost pixels of a mask, unless the person is so small that arms would disappear."""
    solid = cv2.erode(whole, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2))
    return whole if int(solid.sum()) < _KEPT * int(whole.sum()) else solid


def mean_colour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the mean colour ``(3,)`` of the pixels of a mask; grey for an empty mask."""
    return np.asarray(image[mask].mean(axis=0) if mask.any() else np.full(3, 128.0))


def colour_gains(person: np.ndarray, background: np.ndarray, match: float = MATCH) -> np.ndarray:
    """Return factors ``(3,)`` that move a person's mean colour towards the background's (von Kries, coded levels)."""
    ratio = np.maximum(background, 1.0) / np.maximum(person, 1.0)
    return np.asarray(np.clip(ratio**match, *GAINS), np.float32)


def light_on_people(background: np.ndarray) -> np.ndarray:
    """Return the relative brightness of the background, ``(H, W)`` float32 with mean 1.

    Args:
        background: float32 ``(H, W, 3)`` in 0…255.
    """
    height, width = background.shape[:2]
    # The light is smooth over a sixth of the height, so a small picture is sufficient.
    small = cv2.resize(background, (max(width // 8, 1), max(height // 8, 1)), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small.mean(axis=2), (0, 0), max(small.shape[0] / 6, 0.5), borderType=cv2.BORDER_REFLECT)
    relative = smooth / max(float(smooth.mean()), 1.0)
    return np.asarray(cv2.resize(np.clip(1 + SHADE * (relative - 1), 0.6, 1.4).astype(np.float32), (width, height)))


def place(layer: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Map a layer of :func:`cut_out` to a picture of another size; it is transparent outside its frame."""
    return warp(layer, matrix, size, border=cv2.BORDER_CONSTANT, shrink=True)


def put_before(picture: np.ndarray, layer: np.ndarray, gains: np.ndarray, light: np.ndarray) -> None:
    """Draw a person over a picture with its colours and light; the picture is changed in place.

    Args:
        picture: float32 ``(H, W, 3)``.
        layer: uint8 ``(H, W, 4)``; see :func:`cut_out`.
        gains: ``(3,)`` factors of the colours.
        light: ``(H, W)`` factors of the brightness.
    """
    left, top, width, height = cv2.boundingRect(layer[..., 3])
    here = np.s_[top : top + height, left : left + width]
    colours, opacity = layer[here][..., :3], layer[here][..., 3:].astype(np.float32)
    lit = np.minimum(colours * gains * light[here][..., None], opacity)
    picture[here] = lit + picture[here] * (1 - opacity / 255)


def finish(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the picture with common noise, as uint8."""
    noise = rng.standard_normal(picture.shape[:2], np.float32) * GRAIN
    return cv2.add(picture, cv2.merge([noise] * 3), dtype=cv2.CV_8U)


@lru_cache(maxsize=8)
def _border_ramp(height: int, width: int) -> np.ndarray:
    """Return a ramp from 0 at the border of a frame to 1 inside, so that people at the border fade."""
    reach = max(FADE * height, 1.0)
    down, right = np.arange(height) + 0.5, np.arange(width) + 0.5
    vertical, horizontal = np.minimum(down, down[::-1]), np.minimum(right, right[::-1])
    return np.asarray(np.minimum(np.minimum(vertical[:, None], horizontal) / reach, 1.0), np.float32)
