"""What validators see: everybody once, without labels, on any number of processes."""

import dataclasses
import zlib
from random import Random

import pytest
import torch
from gloo_pair import run_pair

from microg_da.data.batches import collate_clips
from microg_da.types import Clip, ClipKey, Prediction
from microg_da.validation.observations import Observations, Observed

C, D = 3, 4
PEOPLE = {"source": [2, 0, 1, 1], "target": [1, 3, 0, 1]}


def batches(domain, clips):
    """One clip a batch, with predictions that tell who they are of."""
    for index in clips:
        count = PEOPLE[domain][index]
        boxes = torch.zeros(count, 4)
        clip = Clip(torch.zeros(3, 1, 2, 2), boxes, boxes, ClipKey(f"{domain}_{index}", 7)).with_labels(
            torch.ones(count, C)
        )
        generator = torch.Generator().manual_seed(1000 * index + len(domain + "x" * (domain == "target")))
        logits = torch.randn(count, C, generator=generator)
        yield collate_clips([clip], domain), Prediction(logits, torch.randn(count, D, generator=generator))


def observe(of):
    observations = Observations(C, D)
    for domain in PEOPLE:
        for batch, prediction in batches(domain, of):
            observations.update(batch, prediction)
    return observations


def in_order(observed):
    """People have no order; rows are sorted by their first logit."""
    fields = ("source_logits", "source_features", "target_logits", "target_features")
    values = {name: getattr(observed, name) for name in fields}
    for domain in PEOPLE:
        order = values[f"{domain}_logits"][:, 0].argsort()
        for what in ("logits", "features"):
            values[f"{domain}_{what}"] = values[f"{domain}_{what}"][order]
    return values


def equal(first, second):
    first, second = in_order(first), in_order(second)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_everybody_is_there_once_with_their_own_features():
    observed = observe(range(4)).observed(0.25)
    assert observed.source_map == 0.25
    for domain, counts in PEOPLE.items():
        expected = torch.cat([prediction.logits for _, prediction in batches(domain, range(4))])
        found = getattr(observed, f"{domain}_logits")
        assert len(found) == sum(counts)
        assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in expected.tolist()}
        assert getattr(observed, f"{domain}_features").shape == (sum(counts), D)


def test_clips_that_a_sampler_repeats_count_once():
    assert equal(observe([0, 1, 2, 3, 0, 1]).observed(), observe(range(4)).observed())


def colliding_names():
    """Two names of clips whose keyframes have one CRC-32; of 10⁶ random names some hundred pairs do."""
    met: dict[int, str] = {}
    random = Random(0)
    for _ in range(1_000_000):
        name = f"{random.getrandbits(64):016x}"
        other = met.setdefault(zlib.crc32(f"{name}@7".encode()), name)
        if other != name:
            return other, name
    raise AssertionError("no pair")


def test_keyframes_whose_checksums_collide_are_different_people():
    observations = Observations(C, D)
    first, second = colliding_names()
    for row, name in enumerate((first, second)):
        clip = Clip(torch.zeros(3, 1, 2, 2), torch.zeros(1, 4), torch.zeros(1, 4), ClipKey(name, 7))
        prediction = Prediction(torch.full((1, C), float(row)), torch.zeros(1, D))
        observations.update(collate_clips([clip], "target"), prediction)
    assert observations.observed().target_logits[:, 0].tolist() == [0.0, 1.0]


def test_a_person_is_known_by_their_index_where_others_were_dropped():
    observations = Observations(C, D)
    (batch, prediction), *_ = batches("target", [1])
    for kept in ([0, 2], [1, 2]):
        chosen = torch.tensor(kept)
        part = Prediction(prediction.logits[chosen], prediction.features[chosen])
        observations.update(batch.take_people(chosen), part)
    found = observations.observed().target_logits
    assert sorted(found.tolist()) == sorted(prediction.logits.tolist())


def test_nothing_seen_is_nobody():
    observed = Observations(C, D).observed()
    assert observed.target_logits.shape == (0, C)
    assert observed.source_features.shape == (0, D)


def test_one_person_of_one_domain():
    observations = Observations(C, D)
    for batch, prediction in batches("target", [0]):
        observations.update(batch, prediction)
    assert observations.observed().target_logits.shape == (1, C)
    assert observations.observed().source_logits.shape == (0, C)


def test_there_is_no_place_for_target_labels():
    assert {field.name for field in dataclasses.fields(Observed)} == {
        "source_map", "source_logits", "source_features", "target_logits", "target_features",
        "support", "classifier", "mixed",
    }  # fmt: skip
    labelled, relabelled = Observations(C, D), Observations(C, D)
    for batch, prediction in batches("target", range(4)):
        labelled.update(batch, prediction)
        relabelled.update(dataclasses.replace(batch, labels=1 - batch.labels), prediction)
    assert equal(labelled.observed(), relabelled.observed())


@pytest.mark.slow
def test_two_processes_see_what_one_sees(tmp_path):
    """The second has one clip fewer, repeats one of the first's, and meets no person in one domain."""
    alone = observe(range(4)).observed()
    for found in run_pair(observe_a_share, tmp_path):
        assert equal(found, alone)


def observe_a_share(rank):
    return observe([[0, 1, 3], [2, 0]][rank]).observed()
