"""From counts to figures: parts, the mean over source videos and intervals, with a metric of the test's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from microg_da.errors import InputError
from microg_da.text import scoring
from microg_da.text.metrics import METRICS, MeanMetric, ratio
from microg_da.text.scoring import Scorer, as_dict


class Same(MeanMetric):
    """1 where the candidate is the reference."""

    def scores(self, candidates, references):
        return np.array([a == b for a, b in zip(candidates, references, strict=True)], dtype=float)


@pytest.fixture
def scorer(monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    METRICS.register("same", f"{__name__}:Same", "equality")
    monkeypatch.setattr(METRICS, "load", lambda name, where="": Same)

    def make(table):
        return Scorer(table, ["same"], "released")

    return make


def table(sources, answerable=None):
    n = len(sources)
    return pd.DataFrame(
        {
            "source": sources,
            "text": [f"t{i}" for i in range(n)],
            "answerable": [True] * n if answerable is None else answerable,
            "qtype": "what",
        }
    )


def test_overall_weighs_items_and_headline_weighs_source_videos(scorer):
    references = table(["a", "a", "a", "b"])
    scores = scorer(references).score(["t0", "t1", "t2", "wrong"], by=["source", "answerable"])
    assert scores.overall["same"] == pytest.approx(75)
    assert scores.headline["same"] == pytest.approx(50)
    assert scores.parts["source"] == {"a": {"items": 3, "same": 100.0}, "b": {"items": 1, "same": 0.0}}
    assert list(scores.parts["answerable"]) == ["answerable"]


def test_unanswerable_items_count_in_overall_alone(scorer):
    references = table(["a", "a", "b", "c"], [True, False, True, False])
    scores = scorer(references).score(["t0", "", "", ""])
    assert scores.overall["same"] == pytest.approx(25)
    assert scores.answerable["same"] == pytest.approx(50)
    # Source c has nothing answerable and is no part of the mean.
    assert scores.headline["same"] == pytest.approx(50)
    assert "parts" not in as_dict(scores)


def test_nothing_answerable_is_not_a_number(scorer):
    scores = scorer(table(["a", "b"], [False, False])).score(["t0", "t1"], ci=True)
    assert scores.overall["same"] == 100
    assert np.isnan(scores.headline["same"])
    assert np.isnan(scores.intervals["headline"]["same"]).all()


def test_intervals_resample_source_videos_and_not_items(scorer):
    rng = np.random.default_rng(0)
    sources = np.repeat(list("abcdefgh"), 50)
    right = np.repeat(rng.random(8) < 0.5, 50)
    references = table(sources)
    texts = [text if ok else "" for text, ok in zip(references["text"], right, strict=True)]
    scores = scorer(references).score(texts, ci=True)
    # Eight clusters that are all right or all wrong: the mean of 8 draws, whatever the 400 items suggest.
    rate = right.mean()
    draws = rng.binomial(8, rate, 100_000) / 8 * 100
    expected = np.percentile(draws, [2.5, 97.5])
    for kind in ("overall", "headline"):
        np.testing.assert_allclose(scores.intervals[kind]["same"], expected, atol=13)
        assert scores.intervals[kind]["same"][1] - scores.intervals[kind]["same"][0] > 40
    assert scores.intervals == scorer(references).score(texts, ci=True).intervals


def test_names_and_degenerate_requests_are_refused(scorer):
    one = scorer(table(["a", "a"]))
    with pytest.raises(InputError, match="--ci"):
        one.score(["t0", "t1"], ci=True)
    with pytest.raises(InputError, match=r"'sorce'.*'source'"):
        one.score(["t0", "t1"], by=["sorce"])
    with pytest.raises(InputError, match=r"protocol 'raw'.*ptb"):
        Scorer(table(["a"]), ["same"], "raw")


def test_metric_names_are_checked_and_bertscore_needs_a_model():
    with pytest.raises(InputError, match=r"'ciderd'.*'cider'"):
        Scorer(table(["a"]), ["ciderd"], "released")
    with pytest.raises(InputError, match="--bertscore-model"):
        Scorer(table(["a"]), ["bertscore"], "released")
    assert set(scoring.DEFAULT_METRICS) <= set(METRICS)


def test_the_ratio_of_nothing_is_what_was_asked_for():
    result = ratio(np.array([1.0, 1.0]), np.array([0.0, 2.0]))
    assert np.isnan(result[0])
    assert result[1] == 0.5
