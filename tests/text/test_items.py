"""Reading captions and answers: the authors' formats, repetitions, absent texts, messages; coverage."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microg_da.errors import InputError
from microg_da.text.items import match, question_type, read_references, read_texts
from microg_da.text.normalise import is_absent, is_not_mentioned, one_line


@pytest.fixture
def write(tmp_path):
    def write(value, name="texts.json"):
        path = tmp_path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    return write


def record(video_id, *pairs, caption="A caption."):
    return {"video_id": video_id, "caption": caption, "qa_pairs": [{"Q": q, "A": a} for q, a in pairs]}


def test_both_formats_of_captions_read_alike(write):
    as_object, notes = read_texts(write({"a_1": "One.", "b_2": "Two."}), "caption")
    as_records, _ = read_texts(write([record("a_1", caption="One."), record("b_2", caption="Two.")]), "caption")
    assert as_object.equals(as_records)
    assert as_object["text"].tolist() == ["One.", "Two."]
    assert notes == []


def test_an_answer_is_one_item_per_question_and_derived_columns_follow(write):
    path = write([record("x_y_7", ("Who is it?", "Not mentioned"), ("In which room?", "Node 3.")), record("z_1")])
    table = read_references(path, "vqa").table
    assert table["source"].tolist() == ["x_y", "x_y"]
    assert table["number"].tolist() == [7, 7]
    assert table["answerable"].tolist() == [False, True]
    assert table["qtype"].tolist() == ["who", "which"]


def test_a_clip_in_two_records_keeps_all_questions_and_a_repeated_item_counts_once(write):
    path = write([record("a_1", ("Q1?", "A1")), record("a_1", ("Q1?", "A1"), ("Q2?", "A2"))])
    answers, notes = read_texts(path, "vqa")
    assert answers["question"].tolist() == ["Q1?", "Q2?"]
    assert any("a_1 in 2 records" in note for note in notes)
    assert any("1 repeated" in note for note in notes)
    assert len(read_texts(path, "caption")[0]) == 1


def test_two_different_texts_for_one_item_are_refused_even_as_keys_of_one_object(write):
    with pytest.raises(InputError, match=r"'a_1'.*'x'.*'y'"):
        read_texts(write([record("a_1", caption="x"), record("a_1", caption="y")]), "caption")
    with pytest.raises(InputError, match="key 'a_1'"):
        read_texts(write('{"a_1": "x", "a_1": "y"}'), "caption")


def test_absent_references_are_left_out_and_said(write):
    references = read_references(write('{"a_1": "nan", "a_2": " \u200b\\n", "a_3": NaN, "a_4": "Text."}'), "caption")
    assert references.table["video_id"].tolist() == ["a_4"]
    assert "3 of 4" in references.notes[0]
    with pytest.raises(InputError, match="'caption'"):
        read_references(write({"a_1": ""}), "caption")


def test_missing_predictions_are_an_error_or_empty_and_coverage_counts_everything(write):
    references = read_references(write({"a_1": "x", "a_2": "y", "a_3": "z"}), "caption")
    predictions, _ = read_texts(write({"a_3": "nan", "a_1": "one", "b_1": "more"}), "caption")
    with pytest.raises(InputError, match=r"p\.json.*\b2 of 3\b.*'a_2'.*--missing empty"):
        match(predictions, references, "error", "p.json")
    texts, coverage = match(predictions, references, "empty")
    assert texts == ["one", "", ""]
    assert (coverage.items, coverage.predicted, coverage.absent, coverage.unknown) == (3, 2, 1, 1)
    with pytest.raises(InputError, match=r"'emty'.*'empty'"):
        match(predictions, references, "emty")


def test_questions_match_whatever_their_white_space(write):
    references = read_references(write([record("a_1", ("Who  is\u200b it?", "x"))]), "vqa")
    predictions, _ = read_texts(write([record("a_1", ("Who is it?\n", "y"))]), "vqa")
    assert match(predictions, references)[0] == ["y"]


@pytest.mark.parametrize(
    ("content", "task", "message"),
    [
        ("{", "vqa", "line 1"),
        ({"a_1": "x"}, "vqa", "video_id.*qa_pairs.*object"),
        ([{"video_id": "a_1"}], "caption", r"entry 1\b.*'caption'.*'video_id'"),
        ([{"video_id": "a_1", "qa_pairs": [{"Q": "x"}]}], "vqa", r"entry 1\b.*a_1.*qa_pairs.*entry 1\b.*'A'"),
        ({"a_1": None}, "caption", "'a_1'.*null"),
        ([3], "caption", "entry 1.*object.*number"),
        ([record("a_1")], "captions", "'captions'.*'caption'"),
        ("", "vqa", "line 1"),
        ('[\n{"video_id": "a_1",}\n]', "vqa", "line 2"),
        ([{"qa_pairs": []}], "vqa", "entry 1.*'video_id'.*'qa_pairs'"),
        ([{"video_id": "a_1"}], "vqa", r"entry 1\b.*a_1.*qa_pairs.*null"),
        ([{"video_id": 7, "caption": "x"}], "caption", "entry 1.*video_id.*number"),
        ([record("a_1", ("Who?", True))], "vqa", r"\bA\b.*true or false"),
        ("text", "caption", "line 1"),
        ('"text"', "caption", "object.*text"),
        ("[" * 100_000, "caption", "JSON"),
        ("1" * 10_000, "caption", "JSON"),
    ],
)
def test_a_wrong_file_is_named_with_the_place_and_what_was_expected(write, content, task, message):
    with pytest.raises(InputError, match=message):
        read_texts(write(content), task)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json.*No such file"):
        read_texts(tmp_path / "none.json", "vqa")
    with pytest.raises(InputError, match="directory"):
        read_texts(tmp_path, "vqa")
    (tmp_path / "latin.json").write_bytes('{"a_1": "Été"}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.json.*UTF-8"):
        read_texts(tmp_path / "latin.json", "caption")


def test_predictions_for_other_clips_alone_are_an_error_that_counts_them(write):
    references = read_references(write({"a_1": "x"}), "caption")
    predictions, _ = read_texts(write({"b_1": "one", "b_2": "two"}), "caption")
    with pytest.raises(InputError, match=r"\b0 of 1\b.*\b2\b"):
        match(predictions, references)


def test_half_a_surrogate_pair_becomes_a_character(write):
    assert read_texts(write('{"a_1": "x\\ud800"}'), "caption")[0]["text"].tolist() == ["x?"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def mostly(expected):
    """What is expected, or now and then anything."""
    return st.integers(0, 9).flatmap(lambda roll: ANYTHING if roll == 0 else expected)


TEXT = mostly(st.sampled_from(["nan", "", "\u200b", "Not mentioned.", "a_1", "a_2"]) | st.characters())
PAIR = mostly(st.fixed_dictionaries({"Q": TEXT}, optional={"A": TEXT}))
RECORD = mostly(
    st.fixed_dictionaries({"video_id": TEXT, "caption": TEXT, "qa_pairs": mostly(st.lists(PAIR, max_size=3))})
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(RECORD, max_size=4) | st.dictionaries(st.text(max_size=5), TEXT, max_size=3) | ANYTHING,
    task=st.sampled_from(["caption", "vqa"]),
    cut=st.none() | st.integers(0, 60),
)
def test_whatever_a_file_holds_it_is_read_or_refused_by_name(tmp_path, content, task, cut):
    path = tmp_path / "fuzz.json"
    path.write_text(json.dumps(content)[:cut])
    try:
        references = read_references(path, task)
    except InputError as error:
        assert "fuzz.json" in str(error)
        return
    table = references.table
    assert len(table) > 0
    assert not table["text"].map(is_absent).any()
    assert not table.duplicated(["video_id", "question"]).any()
    texts, coverage = match(table, references)
    assert texts == table["text"].tolist()
    assert coverage.predicted == len(table)


def test_normalisation_leaves_one_visible_line():
    assert one_line(" the\u200b \u200bgalley\r\n\u2028 module\ufeff ") == "the galley module"
    assert is_absent("\u200b")
    assert is_absent(" NaN")
    assert not is_absent("nan bread")
    assert is_not_mentioned("not mentioned")
    assert is_not_mentioned("Not mentioned.\n")
    assert not is_not_mentioned("The content is not mentioned.")


@pytest.mark.parametrize(
    ("question", "kind"),
    [("What's that?", "what"), ("In which module?", "which"), ("Is she floating?", "yes/no"), ("", "")],
)
def test_question_types(question, kind):
    assert question_type(question) == kind


@pytest.mark.data
def test_the_real_references(test_data):
    path = test_data / "microg4m" / "vqa_and_captioning.json"
    answers = read_references(path, "vqa")
    assert len(answers.table) == 7528
    assert (~answers.table["answerable"]).sum() == 752
    assert answers.table["source"].nunique() == 18
    assert any("PrqcwH8LhDU_051 in 2 records" in note for note in answers.notes)
    captions = read_references(path, "caption")
    assert len(captions.table) == 1236
    assert any("QvTmdIhYnes_1001" in note for note in captions.notes)
