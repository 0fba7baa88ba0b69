"""Images in a page, as data URIs within a budget of bytes."""

from __future__ import annotations

import base64
import math

import cv2
import numpy as np

QUALITY = 85
"""The quality of embedded images, 0 to 100, if they fit the budget."""


def data_uri(image: np.ndarray, budget: int) -> str:
    """Encode an image as WebP, with lower quality and then smaller until it has at most ``budget`` bytes as text."""
    quality = QUALITY
    while True:
        _, encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])
        text = "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
        if len(text) <= budget or max(image.shape[:2]) < 16:
            return text
        if quality == QUALITY:
            quality -= 25
        else:
            # Bytes are roughly proportional to the area; a slightly smaller area makes one step sufficient.
            image = shrunk(image, 0.95 * max(image.shape[:2]) * min(math.sqrt(budget / len(text)), 0.9))


def shrunk(image: np.ndarray, longest: float) -> np.ndarray:
    """An image whose longest side is at most about ``longest`` pixels."""
    factor = longest / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (math.ceil(image.shape[1] * factor), math.ceil(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
