"""Each validator against an independent computation, and against what it must not be fooled by."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import bernoulli, entropy
from sklearn.metrics import mutual_info_score
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel
from sklearn.neighbors import NearestNeighbors

from microg_da.validation import VALIDATORS, score_all, validate
from microg_da.validation.observations import Observed
from microg_da.validation.structure import evenly, snd
from microg_da.validation.transfer_score import hopkins, transfer_score, unevenness

C, D = 6, 8


def observe(target_logits, target_features=None, source_logits=None, source_features=None, source_map=0.5):
    people = len(target_logits)
    generator = torch.Generator().manual_seed(7)
    if target_features is None:
        target_features = torch.randn(people, D, generator=generator)
    if source_logits is None:
        source_logits = torch.randn(20, target_logits.shape[1], generator=generator)
    if source_features is None:
        source_features = torch.randn(len(source_logits), D, generator=generator)
    return Observed(source_map, source_logits, source_features, target_logits, target_features)


def score(name, *arguments, **named):
    return VALIDATORS.load(name)(observe(*arguments, **named))


@pytest.fixture
def logits():
    return torch.randn(30, C, generator=torch.Generator().manual_seed(1)) * 3


def test_entropy_is_that_of_scipy(logits):
    expected = -np.mean([bernoulli(p).entropy() for p in expit(logits.double().numpy()).ravel()])
    assert score("entropy", logits) == pytest.approx(expected, rel=1e-5)


def test_information_is_the_mutual_information_of_person_and_answer(logits):
    """Person and answer of a class have the joint distribution p(answer | person) / K."""
    expected = []
    for p in expit(logits.double().numpy()).T:
        joint = np.stack([p, 1 - p], axis=1) / len(p)
        expected.append(mutual_info_score(None, None, contingency=joint * 1e9))
    assert score("information_maximisation", logits) == pytest.approx(np.mean(expected), rel=1e-5)


def test_information_of_sure_and_balanced_answers_is_one_bit():
    sure = torch.tensor([[50.0] * C, [-50.0] * C])
    assert score("information_maximisation", sure) == pytest.approx(math.log(2), rel=1e-6)


def test_bnm_is_the_sum_of_singular_values(logits):
    p = expit(logits.double().numpy())
    expected = np.linalg.svd(np.concatenate([p, 1 - p], axis=1), compute_uv=False).sum() / np.sqrt(p.size)
    assert score("bnm", logits) == pytest.approx(expected, rel=1e-6)


def test_bnm_is_one_for_identical_answers_and_does_not_grow_with_people():
    assert score("bnm", torch.tensor([[40.0, -40, 40, -40, 40, -40]]).repeat(9, 1)) == pytest.approx(1, rel=1e-6)
    varied = torch.eye(C) * 80 - 40
    assert score("bnm", varied) > 1.5
    assert score("bnm", varied.repeat(5, 1)) == pytest.approx(score("bnm", varied), rel=1e-6)


def density(rows):
    """The paper's score of rows of probabilities, loop by loop."""
    cosines = cosine_similarity(rows) / 0.05
    others = [np.delete(row, index) for index, row in enumerate(cosines)]
    return np.mean([entropy(np.exp(row - row.max())) for row in others])


def test_snd_is_the_entropy_of_neighbourhoods_of_predictions(logits):
    assert score("snd", logits) == pytest.approx(density(expit(logits.double().numpy())), rel=1e-6)


def test_snd_of_answers_that_exclude_each_other_is_the_papers():
    """One class a person: sigmoids whose rows are those of a softmax."""
    rows = torch.softmax(3 * torch.randn(30, C, generator=torch.Generator().manual_seed(2), dtype=torch.float64), dim=1)
    assert score("snd", torch.logit(rows)) == pytest.approx(density(rows.numpy()), rel=1e-6)


def test_snd_prefers_dense_clusters_to_scattered_people():
    generator = torch.Generator().manual_seed(3)
    centres = 8 * torch.eye(C)[torch.arange(40) % 4] - 4
    clusters = [centres + spread * torch.randn(40, C, generator=generator) for spread in (0.01, 3.0)]
    dense, loose = (score("snd", predictions) for predictions in clusters)
    assert dense > loose
    assert dense == pytest.approx(math.log(9), abs=0.01)  # nine others in each cluster, all as near


def test_snd_looks_at_predictions_of_classes_in_the_support_alone(logits):
    support = torch.tensor([True, False, True, True, False, True])
    other = logits.clone()
    other[:, ~support] = torch.randn(30, 2) * 50
    found = [snd(replace(observe(values), support=support)) for values in (logits, other)]
    assert found[0] == found[1] == pytest.approx(density(expit(logits[:, support].double().numpy())), rel=1e-6)
    assert score("snd", logits, torch.randn(30, D)) == score("snd", logits, torch.zeros(30, D))


def with_classifier(rows, logits, features):
    return replace(observe(logits, features), classifier=rows)


def test_the_transfer_score_adds_its_three_terms(logits):
    generator = torch.Generator().manual_seed(4)
    rows, features = torch.randn(C, D, generator=generator), torch.randn(30, D, generator=generator)
    angles = [
        math.acos(float(np.clip(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))
        for a, b in combinations(rows.double().numpy(), 2)
    ]
    uneven = np.mean([abs(angle - math.acos(-1 / (C - 1))) for angle in angles]) / math.pi
    expected = -uneven + hopkins(features.double()) + score("information_maximisation", logits) / math.log(2)
    assert transfer_score(with_classifier(rows, logits, features)) == pytest.approx(expected, rel=1e-5)
    # Rows and answers of classes outside the support take no part.
    support = torch.tensor([True] * 4 + [False] * 2)
    other = replace(with_classifier(torch.cat([rows[:4], 9 * rows[:2]]), logits, features), support=support)
    assert transfer_score(other) == transfer_score(replace(other, classifier=rows))


def test_an_even_classifier_is_a_simplex():
    simplex = torch.eye(C, dtype=torch.float64) - 1 / C
    assert unevenness(simplex) == pytest.approx(0, abs=1e-6)
    assert unevenness(3 * simplex) == pytest.approx(0, abs=1e-6)
    alike = torch.ones(C, D, dtype=torch.float64)
    assert unevenness(alike) == pytest.approx(math.acos(-1 / (C - 1)) / math.pi, abs=1e-6)


def test_hopkins_tells_clusters_from_evenly_spread_points():
    generator = torch.Generator().manual_seed(5)
    even = torch.rand(2000, 2, generator=generator, dtype=torch.float64)
    centres = torch.rand(5, 2, generator=generator, dtype=torch.float64)
    clusters = centres[torch.arange(2000) % 5] + 0.002 * torch.randn(2000, 2, generator=generator, dtype=torch.float64)
    assert hopkins(even) == pytest.approx(0.5, abs=0.05)
    assert hopkins(clusters) > 0.95
    assert hopkins(clusters) == hopkins(clusters)
    assert hopkins(torch.ones(9, 2, dtype=torch.float64)) == 0.5


def test_hopkins_measures_the_distances_that_sklearn_finds():
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    shuffled = points
    points = points[points.sum(dim=1).argsort()]
    generator = torch.Generator().manual_seed(0)
    low, high = points.numpy().min(0), points.numpy().max(0)
    places = low + (high - low) * torch.rand(20, 3, generator=generator, dtype=torch.float64).numpy()
    chosen = torch.randperm(40, generator=generator)[:20]
    index = NearestNeighbors().fit(points.numpy())
    outside = index.kneighbors(places, n_neighbors=1)[0].sum()
    inside = index.kneighbors(n_neighbors=1)[0][chosen].sum()  # leaves each point itself out
    assert hopkins(shuffled) == pytest.approx(outside / (outside + inside), rel=1e-9)


@pytest.mark.parametrize("people", [0, 3])
def test_the_transfer_score_needs_people_and_a_classifier(people, logits):
    assert math.isnan(transfer_score(with_classifier(torch.ones(C, D), torch.randn(people, C), torch.randn(people, D))))
    assert math.isnan(score("transfer_score", logits))


def test_corr_c_is_the_cosine_of_class_correlations(logits):
    source = torch.randn(12, C, generator=torch.Generator().manual_seed(4))
    matrices = [np.einsum("ki,kj->ij", p, p) / len(p) for p in (expit(x.double().numpy()) for x in (source, logits))]
    expected = cosine_similarity(*(matrix.reshape(1, -1) for matrix in matrices))[0, 0]
    assert score("corr_c", logits, source_logits=source) == pytest.approx(expected, rel=1e-6)
    assert score("corr_c", logits, source_logits=logits) == pytest.approx(1, rel=1e-9)


def test_corr_c_falls_when_other_classes_go_together():
    pairs = torch.full((20, C), -20.0)
    pairs[:10, :2] = pairs[10:, 2:4] = 20.0
    others = pairs[:, [0, 2, 1, 3, 4, 5]]
    assert score("corr_c", others, source_logits=pairs) < 0.6


def test_mmd_is_that_of_sklearn_kernels(logits):
    source, target = torch.randn(9, D), torch.randn(30, D) + 1
    both = torch.cat([source, target]).double().numpy()
    squares = ((both[:, None] - both[None]) ** 2).sum(-1)
    # torch's median of an even number is the lower of the middle two.
    pairs = np.sort(squares[np.triu_indices(len(both), 1)])
    median = pairs[(len(pairs) - 1) // 2]
    expected = 0.0
    for power in range(-2, 3):
        kernel = rbf_kernel(both, gamma=1 / (median * 2.0**power))
        np.fill_diagonal(kernel, 0)
        within = kernel[:9, :9].sum() / (9 * 8) + kernel[9:, 9:].sum() / (30 * 29)
        expected += (within - 2 * kernel[:9, 9:].mean()) / 5
    found = score("mmd", logits, target, source_logits=torch.zeros(9, C), source_features=source)
    assert found == pytest.approx(-expected, rel=1e-4)


def test_mmd_is_higher_the_nearer_the_domains(logits):
    features = torch.randn(30, D, generator=torch.Generator().manual_seed(5))
    near, far = (
        score("mmd", logits, features, source_logits=logits, source_features=features.flip(0) + shift)
        for shift in (0.1, 2.0)
    )
    assert near > far


def test_many_people_are_thinned_evenly():
    people = torch.arange(5000)[:, None]
    kept = evenly(people).flatten()
    assert len(kept) == 1024
    assert kept[0] == 0
    assert set(kept.diff().tolist()) == {4, 5}
    assert torch.equal(evenly(people[:1024]), people[:1024])


NEEDS = {"entropy": 1, "information_maximisation": 2, "bnm": 1, "snd": 3, "corr_c": 1, "mmd": 2}


@pytest.mark.parametrize("name", list(NEEDS))
@pytest.mark.parametrize("people", [0, 1, 2, 3])
def test_with_too_few_people_there_is_no_score(name, people):
    found = score(name, torch.randn(people, C))
    assert math.isnan(found) == (people < NEEDS[name])


@pytest.mark.parametrize("name", ["corr_c", "mmd"])
def test_without_source_people_domains_are_not_compared(name):
    assert math.isnan(score(name, torch.randn(5, C), source_logits=torch.zeros(0, C)))


def test_every_validator_survives_extreme_logits():
    for value in (1e4, -1e4):
        mixed = value * torch.randn(12, 3, C, generator=torch.Generator().manual_seed(8))
        observed = replace(observe(torch.full((12, C), value)), classifier=torch.randn(C, D), mixed=mixed)
        assert all(math.isfinite(found) for found in score_all(observed).values())


def test_the_source_score_is_handed_on():
    assert score("source_map", torch.randn(3, C)) == 0.5
    assert math.isnan(score("source_map", torch.randn(3, C), source_map=None))


def collapsed(kind):
    if kind == "one":
        return torch.full((30, C), -20.0).index_fill_(1, torch.tensor([2]), 20.0)
    return torch.full((30, C), 20.0 if kind == "all" else -20.0)


@pytest.mark.parametrize("kind", ["all", "none", "one"])
def test_collapse_raises_entropy_and_no_validator_chooses_it(kind, logits):
    """The reason for the guard: a collapsed detector is the surest of all."""
    more = {"classifier": torch.randn(C, D), "mixed": torch.randn(40, 3, C)}
    healthy, gone = (replace(observe(values), **more) for values in (logits, collapsed(kind)))
    assert score_all(gone)["entropy"] > score_all(healthy)["entropy"]
    assert score_all(gone)["entropy"] == pytest.approx(0, abs=1e-6)
    assert score_all(gone)["information_maximisation"] < score_all(healthy)["information_maximisation"]
    scores, report = validate(gone)
    assert report.collapsed
    assert set(scores) == set(VALIDATORS)
    assert all(value == -math.inf for value in scores.values())
    scores, report = validate(healthy)
    assert not report.collapsed
    assert scores == score_all(healthy)
