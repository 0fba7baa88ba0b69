"""`export`: write a run's detector as a folder for the Hugging Face hub, and as ONNX."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `export`."""
    parser.add_argument("--run", dest="run_folder", metavar="RUN", required=True, help="a run folder")
    parser.add_argument(
        "--variant", "--row", metavar="NAME", help="source_only, adapted (default) or target_supervised"
    )
    parser.add_argument("--to", metavar="DIR", required=True, help="the folder to make")
    parser.add_argument(
        "--onnx", action="store_true", help="also write model.onnx and compare its logits with those of torch"
    )
    parser.add_argument(
        "--onnx-size",
        metavar="HxW",
        help="height and width of its frames in pixels, for networks of one size (default: a square of the test side)",
    )


def run(args: argparse.Namespace) -> int:
    """Export the detector, and print the contents of the folder and what is missing from it."""
    from microg_da.errors import InputError
    from microg_da.export import export_run

    if args.onnx_size and not args.onnx:
        raise InputError("export: --onnx-size has no effect without --onnx. Add --onnx, or remove --onnx-size.")
    size = _size(args.onnx_size) if args.onnx_size else None
    made = export_run(args.run_folder, args.to, variant=args.variant, onnx=args.onnx, onnx_size=size)
    print(f"{made.path}: the {made.variant} detector, its configuration and its model card")
    if made.onnx is not None:
        shape = "×".join(map(str, made.onnx.frames))
        print(f"model.onnx: frames {shape}, within {made.onnx.difference:.1e} of torch's logits")
    if made.test_time_method:
        print(
            f"note: the test-time method {made.test_time_method} is not exported. The scores of the variant "
            f"{made.variant} were measured with it, so the exported detector predicts differently."
        )
    return 0


def _size(text: str) -> tuple[int, int]:
    from microg_da.errors import InputError

    height, _, width = text.lower().replace("×", "x").partition("x")
    if not (height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 16):
        raise InputError(f"--onnx-size {text}: expected HEIGHTxWIDTH with both at least 16, such as 256x341")
    return int(height), int(width)
