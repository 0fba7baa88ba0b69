"""docs/api.md, made of the docstrings of the public names: `python tests/api_page.py` writes it."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import microg_da

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"

HEAD = """# The Python interface

`import microg_da` imports neither torch nor Lightning; a name loads what it needs when it is first used. Every example
stands in the docstring of its name (`help(microg_da.fit)`), which also describes arguments, shapes and errors, and a
test runs all of them. `tests/api_page.py` makes this page of them.

Errors that the user can put right are an `InputError`, which is a `ValueError`. Names that end in `…` in other pages,
such as `microg_da.adaptation.coral.coral_distance`, can be imported and may change between versions; the names of this
page do not without a note in the changelog.
"""

PARTS = {
    "Runs": ("fit", "load_config", "Config", "TrainingConfig", "AugmentConfig", "InputError"),
    "Detectors": (
        *("create_detector", "list_models", "load_detector", "load_predictor", "predict"),
        *("ActionDetector", "Backbone", "Prediction"),
    ),
    "Data": (
        *("open_dataset", "list_data", "list_splits", "ClipDataModule", "ClipBatch"),
        *("read_annotations", "read_detections", "get_taxonomy"),
    ),
    "Training with Lightning": ("DetectorModule",),
    "Adaptation": (
        *("list_adaptations", "create_adaptation", "DomainAdaptation", "SourceFreeAdaptation", "TestTimeMethod"),
        *("multilabel_bce", "list_validators"),
    ),
    "Evaluation": ("evaluate", "evaluate_tubes", "link_tubes", "DetectionMetrics"),
}


def render() -> str:
    """The page."""
    sections = [HEAD]
    for title, names in PARTS.items():
        sections += [f"\n## {title}\n", *(_section(name) for name in names)]
    return "".join(sections)


def _section(name: str) -> str:
    public = getattr(microg_da, name)
    text = inspect.getdoc(public) or ""
    lead = _plain(" ".join(text.partition("\n\n")[0].split()))
    example = re.search(r"^Example:\n((?:    .*\n|\n)+)", text + "\n", flags=re.MULTILINE)
    code = textwrap.dedent(example[1]).strip() if example else ""
    return f"\n### `{name}`\n\n{lead}\n\n```pycon\n{code}\n```\n"


def _plain(text: str) -> str:
    """References of Sphinx as Markdown."""
    return re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text).replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
