"""mAP over windows, from run folders made up for the purpose."""

import json

import numpy as np
import pytest

from microg_da.cli import main
from microg_da.errors import InputError
from microg_da.reporting.temporal_window import heat_map, read_windows, write_windows


@pytest.fixture
def make_window(make_run):
    """A run with a window; what else differs goes into run.json."""

    def make(frames, rate, seed=0, fps=30, **facts):
        folder = make_run(f"{frames}x{rate}-{seed}", seed=seed, examples=0)
        file = folder / "run.json"
        run = json.loads(file.read_text())
        run["model"] |= {"num_frames": frames, "sampling_rate": rate}
        file.write_text(json.dumps(run | {"fps": {"target/test": fps}} | facts))
        return folder

    return make


def target(folder, row):
    return json.loads((folder / "results.json").read_text())["variants"][row]["target"]


def test_every_row_and_group_has_its_map_at_its_window(make_window):
    folders = [make_window(t, r, seed=t * r) for t, r in ((4, 2), (8, 2), (8, 4))]
    found = read_windows(folders)
    assert found.unit == "seconds"
    for row in found.variants:
        grid = found.grid(row)
        assert list(grid.index) == [4, 8]
        assert list(grid.columns) == [2, 4]
        assert grid.loc[8, 4] == pytest.approx(target(folders[2], row)["map"])
        assert np.isnan(grid.loc[4, 4])
        scored = [c for c in target(folders[1], row)["per_class"] if c["support"]]
        for group in found.groups[1:]:
            ap = [c["ap"] for c in scored if c["group"] == group]
            assert found.grid(row, group).loc[8, 2] == pytest.approx(np.mean(ap))
        assert list(found.curve(row, "all").index) == pytest.approx([8 / 30, 16 / 30, 32 / 30])


def test_seeds_and_windows_of_one_span_are_averaged(make_window):
    folders = [make_window(8, 2, seed=0), make_window(8, 2, seed=1), make_window(16, 1, seed=2)]
    found = read_windows(folders)
    maps = [target(folder, "adapted")["map"] for folder in folders]
    assert found.grid("adapted").loc[8, 2] == pytest.approx(np.mean(maps[:2]))
    curve = found.curve("adapted", "all")
    assert len(curve) == 1
    assert curve.iloc[0] == pytest.approx(np.mean([np.mean(maps[:2]), maps[2]]))


def test_without_a_frame_rate_spans_are_counted_in_frames(make_window):
    found = read_windows([make_window(8, 2), make_window(8, 4, fps=None)])
    assert found.unit == "frames"
    assert list(found.curve("adapted", "all").index) == [16, 32]


def test_what_makes_windows_incomparable_is_said(make_window):
    repeated = "…: their first and last frames are repeated"
    folders = [make_window(8, 2), make_window(32, 8, warnings=[repeated])]
    (folders[1] / "config.yaml").write_text("training: {epochs: 9}\n")
    (folders[0] / "config.yaml").write_text("training: {epochs: 3}\n")
    notes = " ".join(read_windows(folders).notes)
    assert "training.epochs (3, 9)" in notes
    assert "repeated end frames: 32×8" in notes


def test_the_command_draws_a_sweep_and_names_the_windows_that_were_refused(make_window, tmp_path, capsys):
    folder = make_window(8, 2).parents[1]
    trial = {"state": "pruned", "values": {"model.num_frames": 32}, "reason": "refused: <b>too long</b>"}
    (folder / "sweeps" / "w").mkdir(parents=True)
    long = [
        {
            "state": "pruned",
            "values": {"model.num_frames": t, "model.sampling_rate": r},
            "reason": "refused: the window",
        }
        for t, r in ((32, 8), (32, 4), (16, 8))
    ]
    (folder / "sweeps" / "w" / "sweep.json").write_text(json.dumps({"trials": [trial, *long]}))
    (folder / "ava2microg").rename(folder / "sweeps" / "w" / "ava2microg")
    assert main(["temporal-window", "--sweep", "w", "--runs", str(folder)]) == 0
    said = capsys.readouterr()
    assert "adapted, target mAP × 100" in said.out
    assert "Not run: model.num_frames=32: refused: <b>" in said.err
    assert "longer than the clips (T × τ): 16 × 8, 32 × 4, 32 × 8." in said.err
    page = next(folder.rglob("temporal_window.html")).read_text()
    assert "<b>too long" not in page
    assert page.count('class="heat"') >= 4
    assert "polyline" in page or "circle" in page


@pytest.mark.parametrize(
    "content",
    ['{"trials": [', "[]", "{}", '{"trials": {}}', '{"trials": [3]}', '{"trials": [{"state": "failed"}]}', "[" * 9999],
)
def test_a_damaged_record_of_a_sweep_is_named(make_window, content):
    folder = make_window(8, 2).parent
    (folder / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=r"sweep\.json"):
        read_windows([folder])


def test_shades_run_from_the_lowest_to_the_highest(make_window, tmp_path):
    found = read_windows([make_window(t, 2, seed=t) for t in (4, 8, 16)])
    shades = [shade for _, cells in heat_map(found.grid("adapted")) for _, shade in cells]
    assert min(shades) == 0
    assert max(shades) == 100
    one = read_windows([make_window(32, 2)])
    assert heat_map(one.grid("adapted"))[0][1][0][1] == 50
    assert write_windows(one, tmp_path / "page.html").is_file()


def test_no_run_is_said(tmp_path, capsys):
    with pytest.raises(InputError, match=r"results\.json"):
        read_windows([tmp_path])
    assert main(["temporal-window"]) == 2
    assert "--sweep NAME" in capsys.readouterr().err
