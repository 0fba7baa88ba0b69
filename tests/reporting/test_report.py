"""The page of a run: sound HTML, true figures, nothing from outside, nothing unescaped, whatever is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from microg_da import reporting
from microg_da.errors import InputError
from microg_da.reporting import gallery, write_report
from microg_da.runs.folder import Run

EXAMPLE = {"domain": "target", "video_id": "a", "frame_stamp": 1, "image": "gone.png", "people": []}
VOID = {"meta", "img", "br", "link", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Elements of a page, checked to be properly nested, with the text cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        if "script" in self.open:
            self.scripts.append(data)
            return
        self.words.append(data)
        if "td" in self.open or ("th" in self.open and "tr" in self.open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def table(self, *headings: str) -> list[list[str]]:
        """The first table whose head holds all these words, cells stripped."""
        for table in self.tables:
            cells = [[" ".join(cell.split()) for cell in row] for row in table]
            head = {cell for row in cells[:2] for cell in row}
            if set(headings) <= head:
                return cells
        raise AssertionError(f"no table with {headings}")


def render(folder: Path) -> Page:
    path = write_report(folder)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def edit(path: Path, change: Callable[[dict], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def own_script() -> str:
    return (Path(reporting.__file__).parent / "templates" / "report.js").read_text(encoding="utf-8")


def shown(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def number(cell: str) -> float:
    return float(cell.replace("−", "-").lstrip("▲▼ ").replace("±", ""))


def test_headline_says_what_the_run_was(run_folder):
    page = render(run_folder)
    for phrase in ("embedded data", "Embedded data: clips drawn by the simulator.", "dann raises target mAP",
                   "synthetic:earth", "synthetic:microgravity", "712,345 parameters", "window 8×2", "last",
                   "12 weights of the checkpoint were not loaded"):  # fmt: skip
        assert phrase in page.text
    assert "oracle" not in page.text.lower()


def test_score_table_equals_results_json(run_folder):
    results = json.loads((run_folder / "results.json").read_text())
    rows = render(run_folder).table("Model", "AUROC")[2:]
    assert len(rows) == 3
    for row, (name, wanted) in zip(rows, results["variants"].items(), strict=True):
        assert row[0].startswith(name.replace("_", "-"))
        assert row[1] == shown((wanted["source"] or {}).get("map"))
        assert row[2:6] == [shown(wanted["target"][key]) for key in ("map", "f1_macro", "recall_macro", "auroc_macro")]
    assert [row[6] for row in rows] == ["–", f"{100 * results['gap_recovered']:.1f} %", "–"]


def test_top1_is_a_column_of_the_score_table_where_clips_have_one_label(run_folder):
    assert "top-1" not in {cell for row in render(run_folder).table("Model", "AUROC") for cell in row}

    def one_label(results: dict) -> None:
        for result in results["variants"].values():
            result["target"] |= {"top1": 0.625, "num_clips": 101}

    edit(run_folder / "results.json", one_label)
    rows = render(run_folder).table("Model", "AUROC")
    assert "top-1" in {cell for row in rows[:2] for cell in row}
    assert all("62.5" in row for row in rows[2:])


def test_class_table_equals_results_json_and_is_sorted_by_change(run_folder):
    results = json.loads((run_folder / "results.json").read_text())
    page = render(run_folder)
    rows = page.table("Class", "change")[1:]
    ap = {name: {c["name"]: c for c in row["target"]["per_class"]} for name, row in results["variants"].items()}
    scored = [name for name, c in ap["adapted"].items() if c["support"]]
    assert len(rows) == len(scored)
    for row in rows:
        name = row[0].rsplit(" ", 1)[0]
        assert row[1].rstrip("*") == str(ap["adapted"][name]["support"])
        assert row[1].endswith("*") == (ap["adapted"][name]["support"] < 5)
        assert row[3:6] == [shown(ap[key][name]["ap"]) for key in ("source_only", "adapted", "target_supervised")]
        assert number(row[6]) == pytest.approx(
            100 * (ap["adapted"][name]["ap"] - ap["source_only"][name]["ap"]), abs=0.051
        )
    changes = [number(row[6]) for row in rows]
    assert changes == sorted(changes, reverse=True)
    assert (
        "1 class has no ground truth in the target test set and is left out of the mean watch (a person)" in page.text
    )


def test_group_table_is_the_mean_over_classes_with_ground_truth(run_folder):
    results = json.loads((run_folder / "results.json").read_text())
    rows = render(run_folder).table("Group", "change")[1:]
    assert [row[0].split(" ")[0] for row in rows] == ["person", "object", "person"]
    for row, group in zip(rows, ("PM", "OM", "PI"), strict=True):
        classes = [
            c for c in results["variants"]["adapted"]["target"]["per_class"] if c["group"] == group and c["support"]
        ]
        assert row[4] == shown(float(np.mean([c["ap"] for c in classes])))
        assert int(row[1]) == sum(c["support"] for c in classes)


def test_nothing_is_loaded_from_outside(run_folder):
    page = render(run_folder)
    text = (run_folder / "report.html").read_text()
    assert not re.search(r"https?://|url\(|@import|//[a-z]+\.[a-z]", text)
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), f"<{tag} {name}={value}>"


@pytest.mark.parametrize("number", [1, 12])
def test_images_keep_to_their_budget_whatever_they_show(make_run, monkeypatch, number):
    monkeypatch.setattr(gallery, "BYTES", 120_000)
    monkeypatch.setattr(gallery, "MOST_BYTES", 24_000)
    # Noise is what compresses worst.
    folder = make_run(examples=1)
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "examples" / "noise.png"), noise)
    listed = json.loads((folder / "examples" / "examples.json").read_text())
    listed[0].update(image="noise.png", frames=["noise.png"] * 8)
    (folder / "examples" / "examples.json").write_text(json.dumps(listed * number))
    images = [a for tag, a in render(folder).tags if tag == "img"]
    assert len(images) == 2 * number
    assert {(a["width"], a["height"]) for a in images if a.get("width")} == {("160", "120")}  # shown as large as ever
    sizes = [len(a["src"]) for a in images]
    assert sum(sizes[:2]) <= 24_000
    assert sum(sizes) <= 120_000
    assert min(sizes) > 1_000


def test_large_images_are_shrunk(make_run):
    folder = make_run(examples=1)
    path = next((folder / "examples").glob("00_4.png"))
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), dtype=np.uint8))
    page = render(folder)
    sizes = [(int(a["width"]), int(a["height"])) for tag, a in page.tags if tag == "img" and a.get("width")]
    assert sizes == [(640, 360)]


def test_gallery_shows_truth_and_predictions(make_run):
    folder = make_run(examples=1)
    person = {
        "box": [0.25, 0.1, 0.75, 0.6],
        "true": [12, 14],
        "source_only": {"12": 0.9, "14": 0.2, "11": 0.8, "8": 0.1},
        "adapted": {"12": 0.3, "14": 0.7, "11": 0.4, "8": 0.1},
    }
    edit(folder / "examples" / "examples.json", lambda listed: listed[0].update(people=[person]))
    page = render(folder)
    rows = page.table("Label", "adapted")[1:]
    assert rows == [["stand", "✓ 0.90", "○ 0.30"], ["walk", "○ 0.20", "✓ 0.70"], ["sit", "✗ 0.80", "0.40"]]
    assert "▲ 2 fixed" in page.text
    assert "▼ 1 broken" in page.text
    boxes = [a for tag, a in page.tags if tag == "rect" and a.get("class") == "p0"]
    assert [(b["x"], b["y"], b["width"], b["height"]) for b in boxes] == [("25.00%", "10.00%", "50.00%", "50.00%")]
    # The window: eight frames side by side, played on hover.
    assert any("--frames:8" in (a.get("style") or "") for _, a in page.tags)


def test_a_person_without_labels_or_predictions(make_run):
    folder = make_run(examples=1)
    person = {"box": [0.2, 0.2, 0.5, 0.5], "true": [], "source_only": {"12": 0.1}, "adapted": {}}
    edit(folder / "examples" / "examples.json", lambda listed: listed[0].update(people=[person], frames=[]))
    assert "no label, nothing predicted" in render(folder).text


def test_hostile_strings_are_escaped(run_folder):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>&{{ 7*7 }}"

    def poison(results):
        for row in results["variants"].values():
            row["method"] = evil
            for entry in row["target"]["per_class"]:
                entry.update(name=entry["name"] + evil, group=evil)

    edit(run_folder / "results.json", poison)
    edit(run_folder / "run.json", lambda run: run.update({key: evil for key in run if isinstance(run[key], str)}))
    edit(run_folder / "run.json", lambda run: run["model"].update(name=evil))
    edit(run_folder / "run.json", lambda run: run.update(warnings=[evil, evil], data={evil: evil}))
    edit(run_folder / "examples" / "examples.json", lambda listed: [e.update(video_id=evil) for e in listed])
    edit(run_folder / "environment.json", lambda environment: environment.update({evil: evil}))
    (run_folder / "config.yaml").write_text(f"experiment: {evil}\n")
    metrics = run_folder / "metrics" / "source" / "metrics.csv"
    metrics.write_text(metrics.read_text().replace("train/domain_loss", f'"train/{evil.replace(chr(34), "")}"'))
    page = render(run_folder)
    assert page.scripts == [own_script()]
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert all(a["src"].startswith("data:image/webp;base64,") for tag, a in page.tags if tag == "img")
    assert "{{ 7*7 }}" in page.text


def test_negative_transfer_and_oracle_are_marked(make_run):
    worse = {("source_only", "target"): 0.5, ("adapted", "target"): 0.3, ("target_supervised", "target"): 0.6}
    folder = make_run(levels=worse)
    edit(folder / "run.json", lambda run: run.update(oracle=True))
    page = render(folder)
    assert "dann lowers target mAP" in page.text
    assert "negative transfer" in page.text.lower()
    assert "Target labels were used" in page.text
    gap = page.table("Model", "AUROC")[3][6]
    assert gap.startswith("−")


def test_a_change_within_its_interval_is_none(make_run, with_finding):
    folder = make_run(examples=0)
    edit(folder / "results.json", lambda results: results.update(with_finding(results, width=1.0)))
    page = render(folder)
    assert "no measurable change" in page.text
    assert "negative transfer" not in page.text.lower()
    assert "the gap is within its interval" in page.table("Model", "AUROC")[3][6]
    assert not re.search(r"\d %", page.table("Model", "AUROC")[3][6])
    coloured = [a for _, a in page.tags if {"better", "worse"} & set((a.get("class") or "").split())]
    assert {a["class"].split()[0] for a in coloured} <= {"after"}  # the legend alone


def test_without_intervals_nothing_is_called_better_or_worse(make_run):
    folder = make_run(examples=0)
    edit(folder / "results.json", lambda results: results.pop("finding"))
    page = render(folder)
    heading = page.text[: page.text.index("Scores")]
    assert "no interval" in heading
    assert not re.search("raises|lowers|no measurable", heading)


def test_few_boxes_and_the_same_data_are_said_first(make_run):
    folder = make_run(examples=0, tables=True)
    shutil.copy(folder / "ground_truth" / "target.csv", folder / "ground_truth" / "source.csv")

    def few(results):
        for row in results["variants"].values():
            row["target"]["num_boxes"] = 72  # as many as the tables hold
        del results["finding"]

    edit(folder / "results.json", few)
    page = render(folder)
    assert "on only 72 boxes" in page.text
    assert "Source and target are the same data" in page.text


def test_figures_of_the_gap_chart_stand_on_either_side_of_their_marks(make_run):
    close = {("source_only", "source"): 0.4, ("source_only", "target"): 0.41}
    page = render(make_run(levels=close, examples=0))
    heights = {a["y"] for tag, a in page.tags if tag == "text" and "figure" in (a.get("class") or "")}
    above, below = sorted(map(float, heights))
    assert below - above > 12 + 11  # a letter's height, and the mark's


@pytest.mark.parametrize(
    "levels",
    [
        {("source_only", "source"): 0.8, ("source_only", "target"): 0.3},
        {("source_only", "source"): 0.8, ("source_only", "target"): 0.3, ("adapted", "target"): 0.3},
        {("source_only", "target"): 0.3, ("target_supervised", "target"): 0.6},
        {("target_supervised", "target"): 0.6},
        {("adapted", "target"): 0.6},
        {},
    ],
    ids=lambda levels: "+".join(sorted({name for name, _ in levels})) or "none",
)
def test_any_subset_of_rows_gives_a_sound_page(make_run, levels):
    folder = make_run(levels=levels, examples=0)
    page = render(folder)
    if not levels:
        return
    assert len(page.table("Model", "AUROC")) == 2 + len({name for name, _ in levels})
    changed = {("source_only", "target"), ("adapted", "target")} <= levels.keys()
    head = page.table("Class")[0]
    assert ("change" in head) == changed
    assert "nan" not in page.text.lower().split()


def test_optional_files_may_be_missing(run_folder):
    for name in ("examples", "metrics"):
        shutil.rmtree(run_folder / name)
    for name in ("config.yaml", "environment.json"):
        (run_folder / name).unlink()
    optional = ("model", "split_hash", "data", "fps", "peak_memory_mib")
    edit(run_folder / "run.json", lambda run: [run.pop(name, None) for name in optional])
    page = render(run_folder)
    assert "config.yaml is not in the run folder" in page.text
    assert "environment.json is not in the run folder" in page.text
    assert not {"curves", "examples"} & {a.get("id") for tag, a in page.tags if tag == "section"}


def test_one_class_and_classes_without_support(make_run):
    folder = make_run(examples=0)

    def only_stand(results):
        for row in results["variants"].values():
            row["target"]["per_class"] = [c for c in row["target"]["per_class"] if c["name"] == "stand"]

    edit(folder / "results.json", only_stand)
    assert [row[0] for row in render(folder).table("Class")[1:]] == ["stand PM"]

    def unsupported(results):
        for row in results["variants"].values():
            row["target"]["per_class"] = [c | {"ap": None, "support": 0} for c in row["target"]["per_class"]]

    edit(folder / "results.json", unsupported)
    assert "left out of the mean stand" in render(folder).text


def test_no_class_table_without_per_class_scores(run_folder):
    edit(
        run_folder / "results.json",
        lambda results: [row["target"].update(per_class=[]) for row in results["variants"].values()],
    )
    page = render(run_folder)
    assert "classes" not in {a.get("id") for tag, a in page.tags if tag == "section"}
    assert "action 12" in page.text  # the gallery falls back on ids


@pytest.mark.parametrize("content", ["", "step,epoch,train/loss\n", "step,epoch,train/loss\n0,0,\n", "a,b\n1,2\n"])
def test_metrics_without_values_leave_no_curve(run_folder, content):
    shutil.rmtree(run_folder / "metrics" / "adapt")
    (run_folder / "metrics" / "source" / "metrics.csv").write_text(content)
    assert "curves" not in {a.get("id") for tag, a in render(run_folder).tags if tag == "section"}


def test_a_single_logged_step_is_a_dot(run_folder):
    (run_folder / "metrics" / "source" / "metrics.csv").write_text("step,epoch,train/loss\n5,0,0.7\n")
    marks = [a for tag, a in render(run_folder).tags if tag == "circle" and (a.get("class") or "").endswith(" mark")]
    assert len(marks) == 1


@pytest.mark.parametrize(
    ("content", "axis", "ticks"),
    [
        (
            "step,epoch,train/loss,val/map\n9,0,0.7,\n9,0,,0.2\n19,1,0.5,\n19,1,,0.4\n29,2,0.4,\n",
            "epoch",
            ["1", "2", "3"],
        ),
        ("step,epoch,train/loss,val/map\n9,0,0.7,\n9,0,,0.2\n", "epoch", ["1"]),
        ("step,epoch,train/loss\n0,0,0.7\n5,0,0.6\n10,1,0.5\n", "step", ["0", "2", "4", "6", "8", "10"]),
    ],
)
def test_curves_run_over_epochs_if_each_logs_once(run_folder, content, axis, ticks):
    shutil.rmtree(run_folder / "metrics" / "adapt")
    (run_folder / "metrics" / "source" / "metrics.csv").write_text(content)
    text = (write_report(run_folder)).read_text()
    chart = text[text.index('aria-label="Loss against') :]
    chart = chart[: chart.index("</svg>")]
    assert f"Loss against {axis}" in chart
    assert re.findall(r'text-anchor="middle">([^<]*)<', chart) == ticks
    assert chart.count("<polyline") == (len(ticks) > 1)


@pytest.mark.parametrize("name", ["results.json", "run.json"])
def test_a_missing_file_is_named(run_folder, name):
    (run_folder / name).unlink()
    with pytest.raises(InputError, match=re.escape(str(run_folder / name))):
        write_report(run_folder)
    assert not (run_folder / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.json", '{"rows":\n [', "line 2: not JSON"),
        ("results.json", "[" * 3000, "not JSON"),
        ("run.json", "9" * 5000, "not JSON"),
        ("results.json", "[]", "expected one JSON object"),
        ("results.json", '{"format": 2}', "'variants'"),
        ("results.json", '{"format": 2, "variants": {"best": {}}}', "'best'"),
        ("results.json", '{"format": 2, "variants": {"adapted": {"method": "a", "seconds": 1}}}', "'target'"),
        ("examples/examples.json", '{"image": "a.png"}', "'image'"),
        ("examples/examples.json", json.dumps([EXAMPLE | {"image": None}]), "'image'"),
        ("examples/examples.json", json.dumps([EXAMPLE]), "gone.png"),
    ],
)
def test_a_damaged_file_is_named(run_folder, name, content, message):
    (run_folder / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        write_report(run_folder)
    assert str(run_folder) in str(caught.value)


def test_results_csv_reader_sees_the_same_rows(run_folder, tmp_path):
    from microg_da.reporting import write_results_csv

    results = json.loads((run_folder / "results.json").read_text())["variants"]
    path = write_results_csv(Run(run_folder).results, tmp_path / "results.csv")
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    wanted = [(name, d) for name, result in results.items() for d in ("source", "target") if result[d]]
    assert [(line["variant"], line["domain"]) for line in lines] == wanted
    for line in lines:
        assert float(line["map"]) == results[line["variant"]][line["domain"]]["map"]
        assert line["protocol"] == "corrected"
        assert "per_class" not in line
    assert [bool(line["gap_recovered"]) for line in lines] == [w == ("adapted", "target") for w in wanted]
