"""The example of every public name runs as it stands, and the page of the API shows all of them."""

import doctest
import inspect
import re
import warnings

import pytest
from api_page import PAGE, render

import microg_da

NAMES = [name for name in microg_da.__all__ if name != "__version__"]


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    """Examples write into the folder that they run in."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_runs(name, in_a_folder):
    public = getattr(microg_da, name)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(public), {}, name, None, 0)
    assert any(name in example.source for example in examples.examples), "no example uses the name"
    said = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append)
    assert result.failed == 0, "".join(said)


def test_the_page_lists_what_is_public_with_its_example():
    page = PAGE.read_text(encoding="utf-8")
    assert render() == page, "`python tests/api_page.py` writes the page anew"
    assert sorted(re.findall(r"^### `(\w+)`$", page, flags=re.MULTILINE)) == sorted(NAMES)
