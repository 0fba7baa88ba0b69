"""docs/new_method.md, followed to the letter in a copy of the source tree."""

import os
import re
import shlex
import shutil
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
    """The repository as it is after steps 1 to 3 of the page."""
    tree = tmp_path_factory.mktemp("repository")
    for part in ("src", "experiments", "sweeps"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    method, line, test = blocks("python")
    written = re.findall(r"^`((?:src|tests)/\S+\.py)`:$", PAGE, flags=re.MULTILINE)
    for path, content in zip(written, (method, test), strict=True):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(content, encoding="utf-8")
    registry = tree / "src" / "microg_da" / "adaptation" / "__init__.py"
    head, entry, rest = registry.read_text(encoding="utf-8").partition('        "source_only": Entry(')
    assert entry
    registry.write_text(head + line + entry + rest, encoding="utf-8")
    return tree


def command(tree, words):
    """A command of the page in that tree; its own package comes before the installed one."""
    assert words[0] == "python"
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    return subprocess.run(
        [sys.executable, *words[1:]], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


def commands():
    return [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


@pytest.mark.slow
def test_the_page_leads_to_a_row_of_the_table(tree):
    test, listing, fit, _ = commands()
    done = command(tree, test)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert "feature_norm" in command(tree, listing).stdout
    done = command(tree, [*fit, *TINY])
    assert done.returncode == 0, done.stderr
    results = next((tree / "runs").glob("ava2microg/first/results.csv")).read_text(encoding="utf-8")
    assert ",feature_norm,target," in results


def test_the_benchmark_of_the_page_takes_the_row_of_the_page():
    import importlib.util

    import yaml

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
    assert [name for name in named if not (folder / name).exists() and name != "feature_norm.py"] == []


def test_the_method_of_the_page_is_checked_as_the_others_are(tree):
    for checker in (["ruff", "check", "--config", str(ROOT / "pyproject.toml")], ["ruff", "format", "--check"]):
        files = ["src/microg_da/adaptation/feature_norm.py", "tests/adaptation/test_feature_norm.py"]
        width = [] if checker[1] == "check" else ["--line-length", "120"]
        assert command(tree, ["python", "-m", *checker, *width, *files]).returncode == 0
