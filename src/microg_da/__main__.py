"""`python -m microg_da`."""
# PYTHON_ARGCOMPLETE_OK: the shell may ask this module how a line goes on.

from microg_da.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
