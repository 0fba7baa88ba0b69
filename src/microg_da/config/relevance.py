"""Finds keys of a configuration that have no effect because of the values of other keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Settings = Mapping[str, str]
"""The values of a configuration as text, by dotted key."""


def unread_keys(settings: Settings) -> set[str]:
    """Return the keys whose values have no effect in this configuration.

    Args:
        settings: all keys of a configuration as text, null as ``None``; a missing key counts as empty.
    """
    return {key for key in settings for start, reads in _READ_IF if key.startswith(start) and not reads(settings)}


def _equals(key: str, *values: str) -> Callable[[Settings], bool]:
    return lambda settings: settings.get(key, "") in values


def _is_given(*keys: str) -> Callable[[Settings], bool]:
    return lambda settings: any(settings.get(key, "") not in ("", "None") for key in keys)


def _is_not_zero(key: str) -> Callable[[Settings], bool]:
    return lambda settings: settings.get(key, "") not in ("0", "0.0")


def _draws(settings: Settings) -> bool:
    return any(settings.get(key, "").startswith("synthetic:") for key in ("data.source", "data.target"))


def _is_file(key: str) -> Callable[[Settings], bool]:
    return lambda settings: not settings.get(key, "").startswith("synthetic:")


def _reads_files(settings: Settings) -> bool:
    return any(not settings.get(key, "").startswith("synthetic:") for key in ("data.source", "data.target"))


_READ_IF: tuple[tuple[str, Callable[[Settings], bool]], ...] = (
    ("synthetic.", _draws),
    ("protocol", lambda _: False),  # it selects a recipe, whose keys are read
    ("data.source_options", _is_file("data.source")),
    ("data.target_options", _is_file("data.target")),
    ("data.sizes", lambda _: False),  # it fills image_size, train_sides and test_side, which are read
    ("data.train_sides", _reads_files),
    ("data.test_side", _reads_files),
    ("data.decode", _reads_files),
    ("data.on_error", _reads_files),
    ("data.feature_draws", _is_given("data.feature_store")),
    ("model.window", lambda _: False),  # it fills num_frames and sampling_rate, which are read
    ("model.allow_missing", _is_given("model.checkpoint", "checkpoint")),
    ("model.skip_weights", _is_given("model.checkpoint")),
    ("model.head_args", _equals("model.head", "attentive")),
    ("model.compile", lambda _: False),  # it affects only the duration of a run
    ("model.adapter_rank", _is_given("model.adapters")),
    ("augment.rotation_mean", _equals("augment.rotation_distribution", "von_mises")),
    ("augment.rotation_concentration", _equals("augment.rotation_distribution", "von_mises")),
    ("augment.rotation_angles", _equals("augment.rotation_distribution", "fixed")),
    ("training.decay_biases", _is_not_zero("training.weight_decay")),
    ("training.momentum", _equals("training.optimizer", "sgd")),
    ("training.step_epochs", _equals("training.schedule", "steps")),
    ("training.relative_lrs", _equals("training.schedule", "steps")),
    ("training.warmup_start", _is_not_zero("training.warmup_epochs")),
    ("adaptation.test_time_args", _is_given("adaptation.test_time")),
    ("target_supervised.", _equals("bounds", "True")),
)
"""Prefixes of keys, and the condition under which these keys are read."""
