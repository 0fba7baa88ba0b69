"""The two looks are told apart by what defines them: noise and compression against grade and contrast."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from microg_da.synthetic import SyntheticSpec, render_clip
from microg_da.synthetic.looks import _random_bytes, draw_look, finish
from microg_da.synthetic.spec import ClipName, generator


def statistics(frames):
    """Mean and spread of the colours, and how much one pixel differs from the next."""
    values = frames.astype(np.float64)
    fine = np.abs(np.diff(np.diff(values, axis=1), axis=2)).mean((0, 1, 2))
    return np.concatenate([values.mean((0, 1, 2)), values.std((0, 1, 2)), fine])


@pytest.mark.parametrize("domain", ["earth", "microgravity"])
def test_a_linear_classifier_tells_the_looks_apart(domain):
    spec = SyntheticSpec(domain, num_clips=80, num_frames=2)
    clips = [render_clip(spec, index) for index in range(80)]
    features = np.stack([statistics(clip.frames) for clip in clips])
    real = np.array(["-real-" in clip.video_id for clip in clips])
    assert real.sum() == 40
    model = make_pipeline(StandardScaler(), LogisticRegression())
    assert (cross_val_predict(model, features, real, cv=5) == real).mean() > 0.85


def test_real_is_noisy_and_simulated_is_lit_from_one_side():
    grey = np.full((4, 96, 96, 3), 128, np.uint8)
    for scene in range(6):
        real, film = (
            finish(grey, draw_look(np.random.default_rng(scene), look), [np.random.default_rng(k) for k in range(4)])
            for look in ("real", "simulated")
        )
        # The same place of two frames differs by noise alone.
        noise = [np.diff(frames.astype(float), axis=0).std() for frames in (real, film)]
        assert noise[0] > 1.4 * noise[1]
        slope = [
            max(abs(halves.mean() - frames.mean()) for halves in (frames[:, :48], frames[:, :, :48]))
            for frames in (real.astype(float), film.astype(float))
        ]
        assert slope[1] > 2 * slope[0]


def test_noise_belongs_to_the_frame():
    look = draw_look(np.random.default_rng(0), "simulated")
    grey = np.full((2, 64, 64, 3), 90, np.uint8)
    same = finish(grey, look, [np.random.default_rng(5), np.random.default_rng(5)])
    other = finish(grey, look, [np.random.default_rng(5), np.random.default_rng(6)])
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(other[0], other[1])


@pytest.mark.parametrize("count", [1, 7, 8, 27_648])
def test_random_bytes_are_those_of_numpy(count):
    one, two = (np.random.Generator(np.random.SFC64(5)) for _ in range(2))
    assert _random_bytes(one, count).tobytes() == two.bytes(count)


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**70])
def test_a_clip_is_seeded_by_the_numbers_that_name_it(seed):
    name = ClipName("microgravity", "real", 33, 4)
    expected = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, 1, 0, 33, 4, 2, 38])))
    assert generator(seed, name, 4, 2, 38).bytes(16) == expected.bytes(16)
