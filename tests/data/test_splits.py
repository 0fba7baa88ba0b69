"""Schemes on made-up tables and on the real ones, whose published figures must come out."""

import json

import numpy as np
import pandas as pd
import pytest

from microg_da.data import SCHEMES
from microg_da.data.annotations import source_videos
from microg_da.data.microg4m import read_microg4m
from microg_da.data.options import FileOptions
from microg_da.data.splits import Division, hold_out, make_split, read_split, write_split
from microg_da.data.stratify import split_distance
from microg_da.errors import InputError
from microg_da.types import SPLITS


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = [f"video{number // 5}_{number:03d}" for number in range(60)]
    rows = [(name, action, 1) for name in names for action in rng.choice(6, 2, replace=False) + 1]
    return pd.DataFrame(rows, columns=["video_id", "action_id", "person_id"])


@pytest.fixture
def domains(table: pd.DataFrame) -> pd.Series:
    ids = table.video_id.unique()
    return pd.Series(["simulated" if name[:6] in ("video1", "video2") else "real" for name in ids], index=ids)


@pytest.mark.parametrize(
    ("scheme", "fold"), [("by-source", None), ("by-source-kfold", 2), ("leave-one-film-out", "video2")]
)
def test_no_source_video_is_divided_and_every_clip_is_somewhere(table, domains, scheme, fold):
    split = make_split(scheme, table, footage=domains, fold=fold)
    assert sorted(clip for side in SPLITS for clip in split.clips[side]) == sorted(table.video_id.unique())
    owners = split.splits.groupby(source_videos(split.splits.index.to_series())).nunique()
    assert (owners == 1).all()
    assert all(split.clips.values())
    sources = source_videos(split.splits.index.to_series())
    assert split.leak_warning(sources) is None


def test_folds_test_every_clip_once(table):
    tested = [make_split("by-source-kfold", table, folds=4, fold=fold).clips["test"] for fold in range(4)]
    assert sorted(clip for fold in tested for clip in fold) == sorted(table.video_id.unique())


def test_the_film_left_out_is_what_tests(table, domains):
    split = make_split("leave-one-film-out", table, footage=domains, fold="video1")
    assert {clip.split("_")[0] for clip in split.clips["test"]} == {"video1"}
    assert len(split.clips["test"]) == 5


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("by_source", {}, "'by_source'.*'by-source'"),
        ("published", {}, "published.*by-source"),
        ("by-source-kfold", {"folds": 2}, r"folds=2\b.*\b3\b"),
        ("by-source-kfold", {"fold": "five"}, r"fold='five'.*\b0 to 4\b"),
        ("leave-one-film-out", {"fold": "Alien"}, "video1"),
        ("by-source-kfold", {"folds": 50}, r"\b12 source videos\b.*\b50\b"),
    ],
)
def test_what_cannot_be_split_says_why(table, domains, scheme, options, message):
    published = pd.Series(np.nan, index=table.video_id.unique(), dtype=object)
    with pytest.raises(InputError, match=message):
        make_split(scheme, table, footage=domains, published=published, **options)


def test_leave_one_film_out_needs_a_film(table):
    with pytest.raises(InputError, match=r"leave-one-film-out.*simulated"):
        make_split("leave-one-film-out", table, fold="video1")


def test_an_empty_table():
    with pytest.raises(InputError, match="empty"):
        make_split("by-source", pd.DataFrame(columns=["video_id", "action_id", "person_id"]))


def test_file_round_trip_and_hash(table, tmp_path):
    split = make_split("by-source", table, seed=3)
    again = read_split(write_split(split, tmp_path / "split.json"))
    assert again == split
    assert again.hash == split.hash
    assert again.settings == {"seed": 3}
    assert make_split("by-source-kfold", table).hash != split.hash


def test_a_changed_file_is_noticed(table, tmp_path):
    path = write_split(make_split("by-source", table), tmp_path / "split.json")
    value = json.loads(path.read_text())
    value["train"].append(value["test"].pop())
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"split\.json.*hash \w{12}\b.*\b\w{12}\b"):
        read_split(path)


@pytest.mark.parametrize("text", ["", "[]", '{"scheme": "published"}', "train,test", "[" * 3000])
def test_what_is_no_split_file(tmp_path, text):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"split\.json.*scheme, settings, hash"):
        read_split(path)


def test_a_clip_on_two_sides():
    with pytest.raises(InputError, match=r"'published'.*\b1 clips\b.*\ba_1\b.*train.*test"):
        Division("published", {"train": ("a_1", "a_2"), "val": (), "test": ("a_1",)})


def test_hold_out_keeps_an_eighth(table):
    held = hold_out(table)
    assert 1 <= len(held) <= 15
    assert set(held) < set(table.video_id)


@pytest.fixture(scope="module")
def real(test_data):
    return read_microg4m(test_data / "microg4m", FileOptions())


@pytest.mark.data
def test_the_published_split_has_the_published_figures(real):
    split = real.split(FileOptions())
    assert {side: len(clips) for side, clips in split.clips.items()} == {"train": 3331, "val": 475, "test": 953}
    shared = split.shared_source_videos("test", real.sources)
    assert (shared.clips, shared.of_clips) == (953, 953)
    assert real.sources.nunique() == 48
    assert "test 953 of 953 clips" in split.leak_warning(real.sources)


@pytest.mark.data
def test_by_source_on_the_real_tables_is_nearer_than_any_of_many_random_divisions(real):
    split = real.split(FileOptions(scheme="by-source"))
    assert split.leak_warning(real.sources) is None
    sizes = np.array([len(split.clips[side]) for side in SPLITS]) / 4759
    np.testing.assert_allclose(sizes, [0.7, 0.1, 0.2], atol=0.01)
    counts = pd.crosstab(real.annotations.video_id.map(real.sources), real.annotations.action_id)
    side = split.splits.map({name: i for i, name in enumerate(SPLITS)}).groupby(real.sources).first().loc[counts.index]
    ours = split_distance(side.to_numpy(), [counts.to_numpy()], (0.7, 0.1, 0.2))
    rng = np.random.default_rng(0)
    chance = [
        split_distance(rng.choice(3, len(counts), p=(0.7, 0.1, 0.2)), [counts.to_numpy()], (0.7, 0.1, 0.2))
        for _ in range(300)
    ]
    assert ours < min(chance)


@pytest.mark.data
def test_six_films_are_simulated(real):
    films = real.sources[real.footage.reindex(real.sources.index) == "simulated"].unique()
    assert sorted(films) == ["Apollo13", "Gravity", "ISS", "Interstellar", "TheMartian", "TheWanderingEarthII"]


def test_every_scheme_can_be_imported():
    assert all(callable(SCHEMES.load(name)) for name in SCHEMES)
