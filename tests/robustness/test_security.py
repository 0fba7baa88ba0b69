"""What a file of data, weights or results says is never obeyed: no path leaves its root, no code runs, no markup lives."""

import ast
import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from score_cases import some_scores

from microg_da.data.audit import audit
from microg_da.data.audit_page import audit_html
from microg_da.data.frames import JpegFolders
from microg_da.data.sources import open_source, read_dataset_files
from microg_da.data.splits import make_split
from microg_da.errors import InputError
from microg_da.files import inside
from microg_da.reporting import write_report

SOURCES = Path(__file__).resolve().parents[2] / "src"
REQUEST = {
    "split": "train", "taxonomy": "microg50", "num_frames": 2, "sampling_rate": 1, "image_size": 16, "labelled": True,
    "train": False,
}  # fmt: skip


def write_clip(folder, name):
    folder.mkdir(parents=True)
    for frame in range(1, 5):
        cv2.imwrite(str(folder / f"{name}_{frame:06d}.jpg"), np.full((16, 16, 3), 9, np.uint8))


@pytest.mark.parametrize("name", ["../secret", "../../data/secret", "a/../../secret", "/{secret}", "."])
def test_no_clip_of_a_table_lies_outside_the_frames(tmp_path, name):
    root = tmp_path / "data"
    write_clip(root / "secret", "secret")
    write_clip(root / "frames" / "film_001", "film_001")
    (root / "frames" / "a").mkdir()
    name = name.format(secret=root / "secret")
    (root / "train.csv").write_text(f"film_001,2,0.1,0.2,0.5,0.9,12,1\n{name},2,0.1,0.2,0.5,0.9,12,1\n")
    with pytest.raises(InputError, match=r"no such folder of frames|outside"):
        open_source(f"microg4m:{root}", **REQUEST)
    with pytest.raises(InputError, match="outside"):
        JpegFolders(root / "frames").num_frames(name)


def test_no_link_among_the_frames_leads_outside(tmp_path):
    write_clip(tmp_path / "elsewhere", "film_001")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "film_001").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="outside"):
        JpegFolders(tmp_path / "frames").num_frames("film_001")


def test_a_link_to_the_frames_themselves_is_the_users_own(tmp_path):
    write_clip(tmp_path / "elsewhere" / "film_001", "film_001")
    (tmp_path / "frames").symlink_to(tmp_path / "elsewhere")
    assert JpegFolders(tmp_path / "frames").num_frames("film_001") == 4


def test_a_report_shows_no_picture_from_elsewhere(tmp_path):
    (tmp_path / "run" / "examples").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((4, 4, 3), np.uint8))
    write_run(tmp_path / "run")
    example = {"domain": "target", "video_id": "a", "frame_stamp": 1, "image": "../../secret.png", "people": []}
    (tmp_path / "run" / "examples" / "examples.json").write_text(json.dumps([example]))
    with pytest.raises(InputError, match="outside"):
        write_report(tmp_path / "run")


@pytest.mark.parametrize("name", ["..", "", ".", "../x", "a/../..", "/etc/passwd"])
def test_names_stay_inside(tmp_path, name):
    with pytest.raises(InputError, match="outside"):
        inside(tmp_path / "root", name)
    assert inside(tmp_path / "root", "a/b.png") == tmp_path / "root" / "a" / "b.png"


# --------------------------------------------------------------------------------------------------------------- pages

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Marks(HTMLParser):
    """The scripts and the handlers of a page."""

    def __init__(self):
        super().__init__()
        self.scripts, self.handlers, self._open = [], [], False

    def handle_starttag(self, tag, attrs):
        self._open = tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        if self._open:
            self.scripts.append(data)

    def handle_endtag(self, tag):
        self._open = False


def assert_harmless(page):
    marks = Marks()
    marks.feed(page)
    assert not [script for script in marks.scripts if "alert" in script]
    assert not marks.handlers
    assert "&lt;script&gt;" in page  # it is shown, as text


def write_run(folder):
    """A run folder whose every text is hostile."""
    scores = some_scores(0.3).as_dict(per_class=False)
    per_class = [
        {"action_id": i, "name": EVIL, "group": "PM", "ap": 0.5, "f1": 0.5, "recall": 0.5, "auroc": 0.5, "support": 9}
        for i in (1, 2)
    ]
    row = {
        "name": "source_only",
        "method": EVIL,
        "seconds": 1.0,
        "source": None,
        "target": {**scores, "per_class": per_class},
    }
    record = {
        "experiment": EVIL, "name": EVIL, "seed": 0, "created": EVIL, "embedded_data": True, "notice": EVIL, "source": EVIL,
        "target": EVIL, "selection": EVIL, "oracle": False, "protocol": EVIL, "split_hash": EVIL, "adaptation": EVIL,
        "model": {"name": EVIL, "parameters": 1, "num_frames": 1, "sampling_rate": 1}, "status": EVIL, "warnings": [EVIL],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "results.json").write_text(json.dumps({"rows": [row], "gap_recovered": None}))
    (folder / "config.yaml").write_text(f"description: '{EVIL}'\n")
    (folder / "environment.json").write_text(json.dumps({"command": EVIL}))


def test_a_report_shows_names_and_runs_none(tmp_path):
    write_run(tmp_path)
    assert_harmless(write_report(tmp_path).read_text(encoding="utf-8"))


def test_an_audit_shows_names_and_runs_none(tmp_path):
    rows = pd.DataFrame(
        {"v": [f"{EVIL}_{i}" for i in range(4)] * 2, "s": 1, "a": 0.1, "b": 0.1, "c": 0.5, "d": 0.5, "e": 12, "p": 1}
    )
    rows.to_csv(tmp_path / "train.csv", index=False, header=False)
    tree, _ = read_dataset_files(f"ava:{tmp_path}", check_boxes=False)
    result = audit(tree, make_split("by-source", tree.annotations, sources=tree.sources), source=EVIL)
    assert_harmless(audit_html(result))


# ---------------------------------------------------------------------------------------------------------------- code


def calls(tree):
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_is_unpickled_without_restriction():
    """Every call in the package that could run what is in a file says that it must not."""
    forbidden = {
        "pickle.load",
        "pickle.loads",
        "yaml.load",
        "yaml.unsafe_load",
        "joblib.load",
        "eval",
        "exec",
        "marshal.loads",
    }
    found = []
    for file in SOURCES.rglob("*.py"):
        for name, call in calls(ast.parse(file.read_text(encoding="utf-8"))):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            unsafe = name in forbidden or "load_from_checkpoint" in name
            unsafe |= name == "torch.load" and given.get("weights_only") != "True"
            unsafe |= name == "np.load" and given.get("allow_pickle", "False") != "False"
            unsafe |= name.endswith("trainer.fit") and given.get("weights_only") != "True"
            if unsafe:
                found.append(f"{file.relative_to(SOURCES)}:{call.lineno}: {name}")
    assert not found
