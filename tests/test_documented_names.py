"""Every model, adaptation, experiment, sweep, command and key that the documentation names exists."""

import re
from collections.abc import Callable, Container
from pathlib import Path

import pytest

from microg_da.adaptation import ADAPTATIONS
from microg_da.cli import COMMANDS
from microg_da.config import canonical_key, load_config
from microg_da.config.experiments import experiment_files, sweep_files
from microg_da.config.structure import sections
from microg_da.errors import InputError
from microg_da.models import MODELS
from microg_da.sweeps.file import read_sweep

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
YAML_FILES = [*sorted(ROOT.glob("sweeps/*.yaml")), *sorted(ROOT.glob("experiments/**/*.yaml"))]

NAME = r"([\w:/.-]*\w)"
NAMED: list[tuple[str, str, Callable[[], Container[str]]]] = [
    ("model", rf"(?<![\w.])model(?:\.name)?={NAME}", lambda: MODELS),
    ("model", rf"--model[ =]{NAME}", lambda: MODELS),
    ("adaptation", rf"(?<![\w.])adaptation(?:\.name|\.test_time)?={NAME}", lambda: ADAPTATIONS),
    ("experiment", rf"--experiment[ =]{NAME}", experiment_files),
    ("sweep", rf"(?:microg_da sweep|--sweep)[ =]{NAME}", sweep_files),
    ("command", rf"-m microg_da {NAME}", lambda: COMMANDS),
]
KEY = rf"(?:{'|'.join(sections())})(?:\.[a-z]\w*)+"
KEYS = (rf"(?<![\w./-])({KEY})=", rf"`({KEY})(?:: [^`]*)?`")
FILE = re.compile(r".*\.(json|html|yaml|onnx|pt|safetensors|csv|py|md)$")

ADDED = ("my_method",)
"""What the README adds without its registry line."""


def unknown_names(text: str) -> list[str]:
    """What a text names that does not exist; ``model=NAME`` and paths stand for something else."""
    found = []
    for kind, pattern, valid in NAMED:
        for name in re.findall(pattern, text):
            # A page that shows how to add something uses it by its name.
            added = name in ADDED or re.search(rf"""["']{re.escape(name)}["'](?:: Entry\(|,)""", text)
            is_path = "/" in name and (kind != "experiment" or FILE.match(name))
            stands_for_one = name.rpartition("/")[2].isupper()
            if name not in valid() and not (stands_for_one or is_path or ":" in name or added):
                found.append(f"{kind} {name}")
    for pattern in KEYS:
        for key in re.findall(pattern, text):
            try:
                if not FILE.match(key):
                    canonical_key(key, "", "documentation")
            except InputError:
                found.append(f"key {key}")
    return found


@pytest.mark.parametrize("path", [*DOCUMENTS, *YAML_FILES], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_named_exists(path):
    assert unknown_names(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_keys_and_values_of_every_file_are_valid(path):
    (read_sweep if path.parent.name == "sweeps" else load_config)(str(path))


def test_the_documentation_names_enough_for_this_to_mean_something():
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    for kind, pattern, _ in NAMED:
        assert re.findall(pattern, text), kind
    assert all(len(re.findall(pattern, text)) > 10 for pattern in KEYS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`model=x3d_m`", ["model x3d_m"]),
        ("fit model.name=x3d_m.", ["model x3d_m"]),
        ("fit --model x3d_m, or", ["model x3d_m"]),
        ("`adaptation.test_time=roll_tat`", ["adaptation roll_tat"]),
        ("--experiment ava3microg", ["experiment ava3microg"]),
        ("--experiment microg4m/slow_r50_8x8 --experiment microg4m/slow", ["experiment microg4m/slow"]),
        ("python -m microg_da sweep dan", ["sweep dan"]),
        ("`python -m microg_da fti`", ["command fti"]),
        ("training.epoch=3 `training.dropout`", ["key training.epoch", "key training.dropout"]),
        ("`model.impossible_windows: refuse`", ["key model.impossible_windows"]),
        ("model=NAME `model.onnx` `model.dropout` model.options.any=1 --experiment runs/x.yaml", []),
        ('adaptation=mine ADAPTATIONS.register("mine", "x:Y")', []),
    ],
)
def test_a_name_that_does_not_exist_is_found(text, found):
    assert unknown_names(text) == found
