"""The bootstrap against scoring resampled tables, intervals against the truth of a simulation."""

import numpy as np
import pandas as pd
import pytest

from microg_da.errors import InputError
from microg_da.evaluation import evaluate
from microg_da.evaluation.paired_comparison import compare, holm
from microg_da.evaluation.protocols import get_protocol, prepare
from microg_da.evaluation.uncertainty import METRICS, bootstrap, cluster, cluster_names, interval, weighted_scores
from microg_da.taxonomy import get_taxonomy


def repeat(table, counts):
    """The table with each source video repeated, copies under new names."""
    source = table["video_id"].str.split("_").str[0]
    parts = [
        table[source == name].assign(video_id=f"copy{i}" + table["video_id"])
        for name, count in counts.items()
        for i in range(count)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_a_weighted_score_is_the_score_of_repeated_data(make_tables, seed, metric):
    detections, truth = make_tables(seed, keyframes=16, ids=(1, 12, 17, 80))
    names = cluster_names(truth, "source")
    counts = dict(zip(names, [2, 0, 1, 3], strict=True))
    protocol, taxonomy = get_protocol("corrected"), get_taxonomy("microg50")
    outcomes, _ = prepare(detections, truth, protocol, taxonomy, "logit")
    weights = np.array([[*counts.values(), 1.0]])
    found = weighted_scores(cluster(outcomes, 0.0, names, "source"), weights, False, metric).macro[0]
    assert found == pytest.approx(
        getattr(evaluate(repeat(detections, counts), repeat(truth, counts)), metric), abs=1e-5
    )


@pytest.mark.parametrize("protocol", ["published", "corrected"])
def test_the_point_is_the_score_itself(make_tables, protocol):
    detections, truth = make_tables(2, keyframes=20)
    found = bootstrap(detections, truth, protocol=protocol, resamples=10).point
    expected = evaluate(detections, truth, protocol=protocol)
    assert found == pytest.approx({name: getattr(expected, name) for name in METRICS}, abs=1e-5)


def test_same_seed_same_intervals(make_tables):
    detections, truth = make_tables(2)
    one, two, other = (bootstrap(detections, truth, resamples=50, seed=seed).intervals() for seed in (1, 1, 2))
    assert one == two != other


def test_intervals_cover_the_truth_and_clustering_matters():
    """Mean recall of a detector whose success is a property of the source video: 60 simulated benchmarks."""
    rng = np.random.default_rng(0)
    covered = {"source": 0, "keyframe": 0}
    for _ in range(60):
        skill = rng.beta(2, 2, 30)
        rows = [(f"s{v}_{k}", 1, 0.1, 0.1, 0.9, 0.9, 12, rng.random() < skill[v]) for v in range(30) for k in range(8)]
        columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id"]
        table = pd.DataFrame(rows, columns=[*columns, "hit"])
        detections = table[columns].assign(score=np.where(table["hit"], 1.0, -1.0))
        for by in covered:
            low, high = bootstrap(
                detections, table[columns], resamples=200, cluster_by=by, taxonomy="microg50"
            ).intervals()["recall_macro"]
            covered[by] += low <= 0.5 <= high
    assert 0.86 * 60 <= covered["source"] <= 60
    assert covered["keyframe"] < covered["source"] - 6


def test_interval_of_an_unbiased_normal_is_the_textbook_one():
    values = np.random.default_rng(0).normal(size=20000)
    assert interval(values, 0.0) == pytest.approx((-1.96, 1.96), abs=0.06)
    assert np.isnan(interval(np.array([np.nan]), 0.0)).all()


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_compare_finds_a_difference_and_no_difference(make_tables):
    _, truth = make_tables(1, keyframes=60, drop=0.0)
    truth = truth.assign(video_id=[f"s{int(v.split('_')[1]) % 15}_{v.split('_')[1]}" for v in truth["video_id"]])
    keys = [c for c in truth if c not in ("action_id", "person_id")]
    every = truth[keys].drop_duplicates().merge(pd.DataFrame({"action_id": [1, 12, 17, 80]}), how="cross")
    right = (every.merge(truth, how="left", on=[*keys, "action_id"])["person_id"].notna()).to_numpy()
    rng = np.random.default_rng(0)
    models = {
        name: every.assign(score=strength * right + rng.normal(size=len(every)))
        for name, strength in {"good": 3.0, "good too": 3.0, "poor": 0.2}.items()
    }
    found = compare(models, truth, resamples=300)
    ranks = found.models.set_index("model")
    assert (ranks["best_rank"]["poor"], ranks["worst_rank"]["poor"]) == (3, 3)
    assert set(ranks["worst_rank"][["good", "good too"]]) == {2}
    assert (found.pairs["p_holm"] >= found.pairs["p"]).all()
    close = found.pairs[(found.pairs["a"] != "poor") & (found.pairs["b"] != "poor")].iloc[0]
    assert close["p"] > 0.05
    assert close["low"] < 0 < close["high"]


def test_bad_arguments(make_tables):
    detections, truth = make_tables(0)
    with pytest.raises(InputError, match="models"):
        compare({"a": detections}, truth)
    with pytest.raises(InputError, match=r"metric 'ap'.*'map'"):
        compare({"a": detections, "b": detections}, truth, metric="ap")
    with pytest.raises(InputError, match=r"ground truth\b.*\bempty"):
        bootstrap(detections, truth.iloc[:0])


def test_source_videos_of_a_column_are_drawn_as_those_of_names(make_tables):
    detections, truth = make_tables(0)
    # Only the truth has the column: a clip without truth would have no source video.
    detections = detections[detections.video_id.isin(truth.video_id)]
    clips = {name: f"clip{number:03d}" for number, name in enumerate(sorted(truth.video_id.unique()))}
    named = [table.assign(video_id=table.video_id.map(clips)) for table in (detections, truth)]
    named[1]["source_video"] = truth.video_id.str.split("_").str[0]
    expected, found = bootstrap(detections, truth, resamples=20), bootstrap(*named, resamples=20)
    assert found.num_clusters == expected.num_clusters == truth.video_id.str.split("_").str[0].nunique()
    assert np.allclose(found.macro["map"], expected.macro["map"])
