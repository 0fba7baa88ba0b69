"""Taxonomies against the real annotations, and the map between them against itself."""

import csv
from collections import Counter

import pytest

from microg_da.errors import InputError
from microg_da.taxonomy import Taxonomy, get_taxonomy, group_of, transfer


def test_sizes():
    assert [len(get_taxonomy(name)) for name in ("microg50", "ava60", "ava80")] == [50, 60, 80]


@pytest.mark.data
def test_microg_ids_and_groups_are_those_of_the_annotations(test_data):
    with (test_data / "microg4m" / "actions.csv").open() as file:
        ids = [int(row["action"]) for row in csv.DictReader(file)]
    assert tuple(sorted(set(ids))) == get_taxonomy("microg50").ids
    assert Counter(map(group_of, ids)) == {"PM": 3987, "OM": 4986, "PI": 4288}


def test_well_known_ava_ids():
    ava = get_taxonomy("ava80")
    known = {
        12: "stand",
        17: "carry/hold (an object)",
        62: "work on a computer",
        69: "hand wave",
        80: "watch (a person)",
    }
    assert {action_id: ava.label(action_id) for action_id in known} == known
    assert [ava.group(i) for i in (1, 14, 15, 63, 64, 80)] == ["PM", "PM", "OM", "OM", "PI", "PI"]


def test_ava_to_microg_says_what_changes():
    change = transfer("ava80", "microg50")
    assert change.changed == (26, 28, 61)
    assert len(change.carried) == 47
    assert len(change.dropped) == 30
    assert change.added == ()
    assert set(transfer("ava60", "microg50").dropped) == {4, 13, 15, 37, 49, 51, 52, 54, 73, 77}


def test_source_index_takes_the_right_rows():
    change = transfer("ava80", "microg50")
    rows = [get_taxonomy("ava80").ids[index] for index in change.source_index]
    assert tuple(rows) == get_taxonomy("microg50").ids


def test_classes_new_in_the_target_have_no_row():
    change = transfer("microg50", "ava60")
    assert set(change.added) == {4, 13, 15, 37, 49, 51, 52, 54, 73, 77}
    assert [i for i, row in zip(change.target.ids, change.source_index, strict=True) if row is None] == list(
        change.added
    )


def test_index_is_the_position_of_the_id():
    taxonomy = get_taxonomy("microg50")
    assert [taxonomy.index(i) for i in taxonomy.ids] == list(range(50))
    assert 2 not in taxonomy
    with pytest.raises(InputError, match=r"\b2\b.*\b50\b"):
        taxonomy.index(2)


def test_label_map_file(tmp_path):
    path = tmp_path / "map.pbtxt"
    path.write_text('item {\n  name: "stand"\n  id: 12\n}\nlabel {\n  name: "sit"\n  label_id: 11\n}\n')
    assert get_taxonomy(path) == Taxonomy("map", (11, 12), ("sit", "stand"))


@pytest.mark.parametrize("text", ["", "item { id: 3 }", 'item { name: "x" id: 300 }', 'item { name: "x" }'])
def test_bad_label_map(tmp_path, text):
    path = tmp_path / "map.pbtxt"
    path.write_text(text)
    with pytest.raises(InputError):
        get_taxonomy(path)


def test_unknown_name_shows_the_nearest():
    with pytest.raises(InputError, match=r"'microg5'.*'microg50'"):
        get_taxonomy("microg5")
