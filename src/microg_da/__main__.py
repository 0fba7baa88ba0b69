"""`python -m microg_da`."""

from microg_da.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
