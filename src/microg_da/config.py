"""The typed schema of an experiment: loading, overriding, checking, saving.

One YAML file is one experiment. A key that does not exist, a value of the wrong type or an impossible number
raises :class:`InputError` that names the key, the file and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microg_da.errors import InputError, nearest, unknown_name
from microg_da.files import write_text


@dataclass
class DataConfig:
    """Where clips come from. A SOURCE reads ``synthetic:earth``, ``ava:/path``, ``microg4m:/path?domain=real``."""

    source: str = "synthetic:earth"
    target: str = "synthetic:microgravity"
    taxonomy: str = "microg50"
    image_size: int = 96
    num_workers: int = 0


@dataclass
class SyntheticConfig:
    """How much of the embedded simulator is drawn, for each domain."""

    train_clips: int = 1200
    val_clips: int = 200
    test_clips: int = 400
    seed: int = 0
    look: str = "any"
    workers: int = 2
    cache: bool = True


@dataclass
class ModelConfig:
    """The detector and the window it sees: ``num_frames`` T frames, ``sampling_rate`` τ apart."""

    name: str = "r2plus1d_tiny"
    num_frames: int = 8
    sampling_rate: int = 2
    dropout: float = 0.5
    checkpoint: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class AugmentConfig:
    """Train-time augmentation; frames and boxes move together."""

    flip: float = 0.5
    scale: list[float] = field(default_factory=lambda: [0.9, 1.15])
    colour: float = 0.2
    rotation: float = 0.0


@dataclass
class TrainingConfig:
    """One training stage: how long, with which optimiser and schedule."""

    epochs: int = 12
    batch_size: int = 16
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    warmup_start: float = 0.01
    steps: list[int] = field(default_factory=lambda: [0, 20, 30, 40, 50])
    relative_lrs: list[float] = field(default_factory=lambda: [1.0, 0.1, 0.01, 0.001, 0.0001])
    clip_gradient_norm: float | None = None


@dataclass
class AdaptationConfig:
    """The adaptation method, its own arguments, and the stage it trains in (None: as the source stage)."""

    name: str = "dann"
    args: dict[str, Any] = field(default_factory=dict)
    epochs: int = 4
    lr: float = 5e-4


@dataclass
class EvaluationConfig:
    """How scores become numbers."""

    protocol: str = "corrected"
    batch_size: int = 32


@dataclass
class TrainerConfig:
    """Passed to ``pytorch_lightning.Trainer`` untouched."""

    accelerator: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    num_threads: int | None = None


@dataclass
class Config:
    """Everything that decides the outcome of a run."""

    experiment: str = "ava2microg"
    description: str = ""
    seed: int = 0
    bounds: bool = False
    selection: str = "last"
    logger: str = "csv"
    data: DataConfig = field(default_factory=DataConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
