"""The configuration of an experiment: its schema, its loading, and the allowed values.

An experiment is one YAML file. An unknown key, a value of the wrong type or a number out of bounds
raises :class:`~microg_da.errors.InputError` that names the key, the file and the nearest valid name.
"""

from microg_da.config.arguments import typed_arguments
from microg_da.config.checks import ROLL_POOLINGS, SELECTIONS, VALIDATOR, check_config
from microg_da.config.loading import (
    canonical_key,
    config_text,
    load_config,
    override_config,
    read_overrides,
    save_config,
)
from microg_da.config.schema import (
    AdaptationConfig,
    AugmentConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    SyntheticConfig,
    TargetSupervisedConfig,
    TrainerConfig,
    TrainingConfig,
)
from microg_da.config.structure import schema_keys

__all__ = [
    "ROLL_POOLINGS",
    "SELECTIONS",
    "VALIDATOR",
    "AdaptationConfig",
    "AugmentConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "ModelConfig",
    "SyntheticConfig",
    "TargetSupervisedConfig",
    "TrainerConfig",
    "TrainingConfig",
    "canonical_key",
    "check_config",
    "config_text",
    "load_config",
    "override_config",
    "read_overrides",
    "save_config",
    "schema_keys",
    "typed_arguments",
]
