"""docs/new_method.md, followed to the letter in a folder outside the package."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "new_method.md").read_text(encoding="utf-8")
TINY = [
    "training.epochs=1", "adaptation.epochs=1", "training.batch_size=4", "data.image_size=48", "synthetic.train_clips=8",
    "synthetic.val_clips=4", "synthetic.test_clips=6", "synthetic.workers=0",
]  # fmt: skip


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder of somebody else as it is after steps 1 and 2 of the page."""
    tree = tmp_path_factory.mktemp("folder")
    method, test, _ = blocks("python")
    written = re.findall(r"^`((?:my_lab|tests)/\S+\.py)`:$", PAGE, flags=re.MULTILINE)
    for path, content in zip(written, (method, test), strict=True):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content, encoding="utf-8")
    return tree


def command(tree, words):
    """A command of the page in that folder."""
    assert words[0] == "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(
        [sys.executable, *words[1:]], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def commands():
    return [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.slow
def test_the_page_leads_to_a_row_of_the_table(tree):
    test, fit, _ = commands()
    done = command(tree, test)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    done = command(tree, [*fit, *TINY])
    assert done.returncode == 0, done.stderr
    results = next((tree / "runs").glob("ava2microg/first/results.csv")).read_text(encoding="utf-8")
    assert ",my_lab.feature_norm:FeatureNorm,target," in results


def test_the_benchmark_of_the_page_takes_the_row_of_the_page(monkeypatch):
    import importlib.util

    import yaml

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("adaptation_benchmark", ROOT / "benchmarks" / "adaptation.py")
    benchmark = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = benchmark
    spec.loader.exec_module(benchmark)
    (line,) = yaml.safe_load(blocks("yaml")[0])
    assert benchmark.Row(**line).overrides()[0] == "adaptation.name=feature_norm"
    *_, last = commands()
    assert last[:2] == ["python", "benchmarks/adaptation.py"]


def test_the_page_names_files_that_exist():
    named = re.findall(r"`(\w+\.py)`", PAGE)
    folder = ROOT / "src" / "microg_da" / "adaptation"
    assert named
    assert [name for name in named if not (folder / name).exists()] == []


def test_the_line_for_the_registry_is_one():
    from microg_da.registry import Entry, Registry

    *_, line = blocks("python")
    registry = Registry("adaptation", eval(f"{{{line}}}", {"Entry": Entry}))
    assert list(registry) == ["feature_norm"]


def test_the_entry_point_of_the_page_names_the_method(tree):
    (found,) = re.findall(r'^feature_norm = "([\w.]+):(\w+)"$', blocks("toml")[0], flags=re.MULTILINE)
    assert (tree / f"{found[0].replace('.', '/')}.py").is_file()
    assert f"adaptation.name={':'.join(found)}" in PAGE
    assert f"class {found[1]}(DomainAdaptation)" in PAGE


def test_the_method_of_the_page_is_checked_as_the_others_are(tree):
    for checker in (["ruff", "check", "--config", str(ROOT / "pyproject.toml")], ["ruff", "format", "--check"]):
        files = ["my_lab/feature_norm.py", "tests/test_feature_norm.py"]
        width = [] if checker[1] == "check" else ["--line-length", "120"]
        assert command(tree, ["python", "-m", *checker, *width, *files]).returncode == 0
