"""Draw the picture of the gravity frame in the README from a finished run of ava2microg.

    python benchmarks/gravity_picture.py RUN --output docs/pictures/gravity_frame.png

See :func:`microg_da.reporting.gravity_picture.write_gravity_picture`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from microg_da.reporting.gravity_picture import write_gravity_picture
from microg_da.runs.folder import Run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run of ava2microg")
    parser.add_argument("--output", type=Path, default=Path("gravity_frame.png"))
    args = parser.parse_args()
    print(write_gravity_picture(Run.open(args.run), args.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
