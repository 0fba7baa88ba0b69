"""Detectors that can be exported as ONNX, and the difference of their logits from torch: `docs/export.md`.

    python benchmarks/onnx_models.py [NAME …]

Weights are random and modified so that every layer affects the logits: batch normalisation has the statistics of a
clip, no block is the identity, and the head is scaled to a largest logit of about 10. Frames are small, which changes
neither the operators nor the weights.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from microg_da.errors import InputError
from microg_da.export.onnx_file import _random_inputs, export_onnx
from microg_da.models import create_detector, model_window
from microg_da.models.detector import ActionDetector
from microg_da.zoo import ZOO

ENCODERS = ("timm:resnet18", "timm:convnext_atto", "timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224")
SIZE = {"timm:swin_tiny_patch4_window7_224": (224, 224)}


@torch.no_grad()
def lively(name: str, num_frames: int, size: tuple[int, int]) -> ActionDetector:
    """Return a detector with random weights whose logits depend on all weights."""
    torch.manual_seed(0)
    detector = create_detector(name)
    for module in detector.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight[module.weight == 0] = 0.2
            module.momentum = None
    for parameter in detector.backbone.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    generator = torch.Generator().manual_seed(0)
    detector(*_random_inputs(4, 8, num_frames, size, generator))
    detector.eval()
    largest = max(detector(*_random_inputs(2, 4, num_frames, size, generator)).logits.abs().max() for _ in range(3))
    detector.head.projection.weight.mul_(10 / largest)
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[*ZOO, *ENCODERS])
    print("| model | ONNX | frames | largest \\|Δlogit\\| | largest \\|logit\\| | MB | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in parser.parse_args().models:
        window = model_window(name)
        num_frames = window.num_frames if window else 4
        size = SIZE.get(name, (64, 96))
        detector = lively(name, num_frames, size)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                made = export_onnx(detector, Path(folder) / "model.onnx", num_frames, size)
            except InputError as error:
                print(f"| `{name}` | no: {error} | | | | | {time.perf_counter() - start:.0f} |", flush=True)
                continue
        shape = "×".join(map(str, made.frames))
        figures = f"{made.difference:.1e} | {made.largest_logit:.1f} | {made.size / 1e6:.1f}"
        print(f"| `{name}` | yes | {shape} | {figures} | {time.perf_counter() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
