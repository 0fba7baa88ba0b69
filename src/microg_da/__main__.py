"""`python -m microg_da`."""
# PYTHON_ARGCOMPLETE_OK: the shell may run this module to complete a line.

from microg_da.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
