"""The metric against the function, whatever the batches, the order, the repeats and the number of processes."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from gloo_pair import run_pair
from torchmetrics import MetricCollection

from microg_da.errors import InputError
from microg_da.evaluation import evaluate
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.taxonomy import Taxonomy, get_taxonomy

IDS = (1, 12, 17, 80)
TAXONOMY = Taxonomy("four", IDS, ("a", "b", "c", "d"))
BOX = ["x1", "y1", "x2", "y2"]


def as_batches(detections):
    """(keys, boxes, logits) of full detections, one row per box."""
    wide = detections.pivot_table(index=["video_id", "frame_stamp", *BOX], columns="action_id", values="score")
    wide = wide.reset_index()
    keys = list(zip(wide["video_id"], wide["frame_stamp"], strict=True))
    return keys, torch.tensor(wide[BOX].to_numpy()).float(), torch.tensor(wide[list(IDS)].to_numpy())


def known(detections, truth):
    return detections.merge(truth[["video_id", "frame_stamp"]].drop_duplicates())


@pytest.mark.parametrize("protocol", ["published", "corrected"])
@pytest.mark.parametrize("batch", [1, 3, 100])
def test_equals_the_function(make_tables, protocol, batch):
    detections, truth = make_tables(3, ids=IDS)
    detections = known(detections, truth)
    keys, boxes, logits = as_batches(detections)
    metric = DetectionMetrics(truth, TAXONOMY, protocol)
    index = metric.index_of(keys)
    for rows in torch.randperm(len(keys)).split(batch):
        metric.update(index[rows], boxes[rows], logits[rows])
    expected = evaluate(detections, truth, protocol=protocol, taxonomy=TAXONOMY).as_dict()
    result = metric.compute()
    for name in ("map", "f1_macro", "recall_macro", "auroc_macro", "map_min_support"):
        assert result[name] == pytest.approx(expected[name], abs=1e-9), name
    assert [row["ap"] for row in result["per_class"]] == pytest.approx(
        [row["ap"] for row in expected["per_class"]], nan_ok=True
    )


def test_detections_come_back(make_tables):
    detections, truth = make_tables(5, ids=IDS)
    detections = known(detections, truth)
    keys, boxes, logits = as_batches(detections)
    metric = DetectionMetrics(truth, TAXONOMY)
    metric.update(metric.index_of(keys), boxes, logits)
    order = ["video_id", "frame_stamp", *BOX, "action_id"]
    pd.testing.assert_frame_equal(
        metric.detections().sort_values(order, ignore_index=True),
        detections.sort_values(order, ignore_index=True),
        atol=1e-6,
    )


def test_repeats_of_a_sampler_count_once(make_tables):
    detections, truth = make_tables(6, ids=IDS)
    keys, boxes, logits = as_batches(known(detections, truth))
    once, twice = DetectionMetrics(truth, TAXONOMY, "published"), DetectionMetrics(truth, TAXONOMY, "published")
    index = once.index_of(keys)
    once.update(index, boxes, logits)
    twice.update(index, boxes, logits)
    twice.update(index[:5], boxes[:5], logits[:5])
    pd.testing.assert_frame_equal(twice.scores().per_class, once.scores().per_class)
    assert len(twice.detections()) == len(once.detections())


def test_nothing_seen_and_reset(make_tables):
    detections, truth = make_tables(6, ids=IDS)
    keys, boxes, logits = as_batches(known(detections, truth))
    metric = DetectionMetrics(truth, TAXONOMY)
    assert metric.detections().empty
    assert metric.scores().map == 0
    metric.update(metric.index_of(keys), boxes, logits)
    assert metric.scores().map > 0
    metric.reset()
    assert metric.scores().map == 0
    metric.update(metric.index_of([]), boxes[:0], logits[:0])
    assert metric.scores().map == 0


def test_bad_input(make_tables):
    _, truth = make_tables(0)
    metric = DetectionMetrics(truth, "microg50")
    with pytest.raises(InputError, match=r"\('nowhere_1', 3\)"):
        metric.index_of([("nowhere_1", 3)])
    with pytest.raises(ValueError, match=r"\(K, 50\).*\(1, 80\)"):
        metric.update(torch.tensor([0]), torch.zeros(1, 4), torch.zeros(1, 80))


def test_half_precision_and_moves(make_tables):
    _, truth = make_tables(0)
    metric = DetectionMetrics(truth).to("cpu").double()
    metric.update(torch.tensor([0]), torch.rand(1, 4).half(), torch.zeros(1, 50, dtype=torch.bfloat16))
    assert len(metric.detections()) == len(get_taxonomy("microg50"))


def _compute(truth, keys, boxes, logits, rows):
    metric = DetectionMetrics(truth, TAXONOMY, "published")
    index = metric.index_of(keys)
    for part in rows.split(4):
        metric.update(index[part], boxes[part], logits[part])
    result = metric.compute()
    return result["map"], result["f1_macro"], result["auroc_macro"], len(metric.detections())


def _one_of_two(rank, shares, *data):
    return [_compute(*data, share[rank]) for share in shares]


@pytest.mark.slow
def test_two_processes_equal_one(make_tables, tmp_path):
    detections, truth = make_tables(9, keyframes=15, ids=IDS, ties=True)
    data = (truth, *as_batches(known(detections, truth)))
    rows = torch.arange(len(data[1]))
    # As DistributedSampler does: every other one, and the first of all once more to make the shares equal.
    shares = [(rows[::2], torch.cat([rows[1::2], rows[:1]])), (rows, rows[:0])]
    pair = run_pair(_one_of_two, tmp_path, shares, *data)
    expected = _compute(*data, rows)
    assert np.isfinite(expected).all()
    assert pair == [[expected, expected]] * 2


# ---------------------------------------------------------------------------------------- the habits of torchmetrics


@pytest.fixture
def filled(make_tables):
    """A table, two batches of it, and the scores of both together."""
    detections, truth = make_tables(4, ids=IDS)
    keys, boxes, logits = as_batches(known(detections, truth))
    half = len(keys) // 2
    batches = [(keys[part], boxes[part], logits[part]) for part in (slice(half), slice(half, None))]
    return truth, batches, evaluate(known(detections, truth), truth, taxonomy=TAXONOMY)


def test_keyframes_may_be_named(filled):
    truth, batches, expected = filled
    metric = DetectionMetrics(truth, TAXONOMY)
    for batch in batches:
        metric.update(*batch)
    assert metric.scores().map == pytest.approx(expected.map)
    with pytest.raises(InputError, match="nowhere_1"):
        metric.update([("nowhere_1", 3)], torch.zeros(1, 4), torch.zeros(1, len(IDS)))


def test_forward_is_an_update_and_the_scores_of_its_batch(filled):
    truth, batches, expected = filled
    metric = DetectionMetrics(truth, TAXONOMY)
    for batch in batches:
        alone = DetectionMetrics(truth, TAXONOMY)
        alone.update(*batch)
        assert metric(*batch)["map"] == pytest.approx(alone.compute()["map"])
    assert metric.compute()["map"] == pytest.approx(expected.map)
    assert metric.update_count == 2


def test_a_metric_is_pickled_and_cloned_with_what_it_has_seen(filled):
    truth, batches, expected = filled
    metric = DetectionMetrics(truth, TAXONOMY)
    metric.update(*batches[0])
    for copy in (pickle.loads(pickle.dumps(metric)), metric.clone()):
        copy.update(*batches[1])
        assert copy.scores().map == pytest.approx(expected.map)
    assert len(metric.detections()) < len(copy.detections())


def test_reset_forgets_and_computing_is_repeatable(filled):
    truth, batches, expected = filled
    metric = DetectionMetrics(truth, TAXONOMY)
    metric.update(*batches[0])
    metric.compute()
    metric.reset()
    assert metric.update_count == 0
    for batch in reversed(batches):
        metric.update(*batch)
    first, second = metric.compute(), metric.compute()
    assert first["map"] == second["map"] == pytest.approx(expected.map)
    assert metric.state_dict() == {}  # states are not part of checkpoints


def test_metrics_are_collected(filled):
    truth, batches, expected = filled
    both = {protocol: DetectionMetrics(truth, TAXONOMY, protocol) for protocol in ("published", "corrected")}
    collection = MetricCollection(both, compute_groups=False)
    for batch in batches:
        collection.update(*batch)
    values = [value for name, value in collection.compute().items() if name.endswith("map") and "corrected" in name]
    assert values == [pytest.approx(expected.map)]
