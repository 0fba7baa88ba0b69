"""Runs made in this process, so that they can be disturbed from within."""

from __future__ import annotations

import pytest


@pytest.fixture
def fit(capfd):
    """Calls `fit` as the command line does; gives its status and what it said on standard error."""
    from microg_da.cli import main

    def call(*words):
        capfd.readouterr()
        status = main(["fit", *map(str, words)])
        return status, capfd.readouterr().err

    return call
