"""Checks of the whole configuration of a run before clips are drawn, tables are read or folders are made.

Each check is one function of the configuration. A check reads at most the header of a file. The checks in
:data:`QUICK` come first and need no torch, so that most errors are reported within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microg_da.adaptation import ADAPTATIONS
from microg_da.config import SELECTIONS, VALIDATOR, Config, TrainerConfig, check_config
from microg_da.data import DATA, DOWNLOAD_PAGES
from microg_da.data.options import parse_source
from microg_da.errors import InputError, first_line, unknown_name
from microg_da.models import check_model_name
from microg_da.registry import is_path
from microg_da.taxonomy import get_taxonomy
from microg_da.training.source_checks import check_source
from microg_da.types import DOMAINS, Domain
from microg_da.validation import VALIDATORS
from microg_da.zoo import weight_address

if TYPE_CHECKING:
    from microg_da.models.detector import ActionDetector

_PURE_HALF = ("bf16-true", "16-true")


def check(config: Config, *, resumes: bool = False, checked: Config | None = None) -> None:
    """Check that a run can be completed, before it starts.

    Args:
        config: the run.
        resumes: whether the run is resumed. Its weight files may have been removed since it started.
        checked: a configuration that passed the checks. Checks whose keys have equal values are skipped.

    Raises:
        InputError: for an invalid setting. The message names the key, the expected values and the remedy.
    """
    for sections, function in (*QUICK, *THOROUGH):
        if resumes and function in (check_files, check_weights):
            continue
        if checked is None or any(getattr(config, name) != getattr(checked, name) for name in sections):
            function(config)


def check_quickly(config: Config) -> None:
    """Run the checks that need no torch; :func:`check` includes them."""
    for _, function in QUICK:
        function(config)


# ------------------------------------------------------------------------------------------------- without torch


def check_names(config: Config) -> None:
    """Check the names of the adaptations, the model and the selection."""
    ADAPTATIONS.entry(config.adaptation.name, "adaptation.name")
    if config.adaptation.test_time is not None:
        ADAPTATIONS.entry(config.adaptation.test_time, "adaptation.test_time")
    check_model_name(config.model.name, "model.name")
    validator = config.selection.removeprefix(VALIDATOR)
    if is_path(validator) and validator != config.selection:
        VALIDATORS.load(validator, "selection")
    elif config.selection not in SELECTIONS:
        _among("selection", config.selection, [*SELECTIONS, *(f"{VALIDATOR}{name}" for name in VALIDATORS)])


def check_taxonomy(config: Config) -> None:
    """Check that the taxonomy is a known name or a label map."""
    with _Naming("data.taxonomy"):
        get_taxonomy(config.data.taxonomy)


def check_loggers(config: Config) -> None:
    """Check that the packages of the trackers are installed."""
    for name in (part.strip() for part in config.logger.split(",")):
        if name in ("wandb", "tensorboard") and find_spec(name) is None:
            raise InputError(f"logger={name} needs the package {name}: pip install 'microg_da[{name}]'.")


def check_files(config: Config) -> None:
    """Check that the weight files and the data folders exist. One message names all missing inputs."""
    missing = [*_missing_weights(config), *_missing_folders(config)]
    if len(missing) == 1:
        raise InputError(missing[0])
    if missing:
        lines = "".join(f"\n  - {each}" for each in missing)
        raise InputError(f"{len(missing)} inputs of the run do not exist:{lines}")


def _missing_weights(config: Config) -> Iterator[str]:
    from microg_da.models.packages import package_file, packaged
    from microg_da.models.weight_kinds import WHERE_PUBLISHED

    for key, path in _weight_files(config).items():
        with _Naming(key):
            package = packaged(path)
            if package and key == "checkpoint":
                raise InputError(f"{key}={path}: this is an encoder without a head. Use model.checkpoint={path}.")
            if package:
                package_file(package)
        if package is None and not Path(path).exists():
            address = weight_address(path)
            get = f"Download it: {address}." if address else f"Give the path of a weight file, or remove {key}."
            run = _made_by(path)
            where = "" if run or address else f" {WHERE_PUBLISHED}"
            yield f"{key}={path}: the file does not exist. {run or get}{where}"


def _made_by(path: str) -> str | None:
    """Return how to make the detector of a run that a recipe refers to; None for other files."""
    parts = Path(path).parts
    if len(parts) < 4 or parts[0] != "runs" or parts[-1] != "detector.pt":
        return None
    experiment, name = "/".join(parts[1:-4]), parts[-4]
    return f"Make it with `fit --experiment {experiment} --name {name}`."


def _sources(config: Config) -> dict[str, str]:
    """Return all SOURCEs of a run by their keys."""
    sources = {"data.source": config.data.source, "data.target": config.data.target}
    if config.adaptation.extra_source is not None:
        sources["adaptation.extra_source"] = config.adaptation.extra_source
    return sources


def _missing_folders(config: Config) -> Iterator[str]:
    keys: dict[str, list[str]] = {}
    for key, text in _sources(config).items():
        with _Naming(key):
            source = parse_source(text)
        if not source.is_drawn and source.kind in DATA and not Path(source.path).expanduser().is_dir():
            keys.setdefault(text, []).append(key)
    for text, named in keys.items():
        source = parse_source(text)
        page = DOWNLOAD_PAGES.get(source.kind)
        get = f" Download the data set from {page}; docs/reproduce.md shows how." if page else ""
        if named == ["adaptation.extra_source"]:
            get = " Make it with the command weightless (docs/weightless.md), or set adaptation.extra_source=null."
        yield (
            f"{' and '.join(named)}={text}: folder {Path(source.path).expanduser()} not found. "
            f"Give the folder of the data set, as in {named[0]}={source.kind}:/PATH.{get}"
        )


def check_sources(config: Config) -> None:
    """Check the form, the options and the folders of all SOURCEs, and that the window fits drawn clips."""
    # Source labels are needed unless a finished source model is only tested.
    trains = config.checkpoint is None or config.adaptation.name != "source_only"
    labelled = {"data.source": trains, "data.target": config.bounds, "adaptation.extra_source": True}
    domains: dict[str, Domain] = {f"data.{domain}": domain for domain in DOMAINS}
    for key, text in _sources(config).items():
        with _Naming(key):
            check_source(domains.get(key), text, config, labelled[key])


# ---------------------------------------------------------------------------------------------------- with torch


def check_methods(config: Config) -> None:
    """Check the arguments of both adaptations, and that the test-time method can follow the training method."""
    from microg_da.adaptation.base import TestTimeMethod, method_arguments

    settings = config.adaptation
    method_arguments(settings.name, settings.args)
    if settings.test_time is None:
        if settings.test_time_args:
            raise InputError(
                f"adaptation.test_time_args={settings.test_time_args}: no test-time method is set. "
                f"Set adaptation.test_time=NAME, or use adaptation.args for {settings.name}."
            )
        return
    method_arguments(settings.test_time, settings.test_time_args, key="adaptation.test_time_args")
    first, second = (ADAPTATIONS.load(name) for name in (settings.name, settings.test_time))
    if not issubclass(second, TestTimeMethod):
        raise InputError(
            f"adaptation.test_time={settings.test_time}: this is a training method. Choose a test-time "
            "method, or set adaptation.name to it."
        )
    if settings.name == "source_only":
        raise InputError(
            f"adaptation.test_time={settings.test_time}: a test-time method here needs a training method, and "
            f"source_only is none. Use adaptation={settings.test_time}."
        )
    if issubclass(first, TestTimeMethod):
        raise InputError(
            f"adaptation.test_time={settings.test_time}: {settings.name} is also a test-time method. "
            "Choose one of the two."
        )


def check_model(config: Config) -> None:
    """Check the options of the model, and that the adaptations can act on the model."""
    from microg_da.runs.detectors import build_test_time_method, build_training_method

    detector = _detector_without_memory(config)
    with _Naming("adaptation.args"):
        training = build_training_method(config, detector)
        if training is not None:
            training.check_detector(detector)
    with _Naming("adaptation.args" if config.adaptation.test_time is None else "adaptation.test_time_args"):
        test_time = build_test_time_method(config, detector, training)
        if test_time is not None:
            test_time.check_detector(detector)


def check_feature_store(config: Config) -> None:
    """Check that the run can read feature maps in place of frames."""
    if config.data.feature_store is not None:
        from microg_da.training.stored_features import check_store

        check_store(config, _detector_without_memory(config))


def check_weights(config: Config) -> None:
    """Check that the weight files fit this network, without reading the tensors if the format allows it."""
    files = _weight_files(config)
    if not files:
        return
    from microg_da.models.checkpoints import fitting_weights

    detector = _detector_without_memory(config)
    for key, path in files.items():
        with _Naming(key):
            skip = config.model.skip_weights if key == "model.checkpoint" else ()
            fitting_weights(detector, path, config.model.allow_missing, skip)


def check_trainer(config: Config) -> None:
    """Check device, number of devices, strategy and precision with Lightning on this machine."""
    if config.trainer.precision in _PURE_HALF:
        mixed = config.trainer.precision.replace("true", "mixed")
        raise InputError(
            f"trainer.precision={config.trainer.precision}: training in half precision is not supported. "
            f"Use {mixed}, which keeps weights in single precision."
        )
    problem = _trainer_problem(config.trainer)
    if problem is None:
        return
    # Lightning does not name the invalid argument, so each argument is replaced by its default in turn.
    usual = TrainerConfig()
    for key in ("accelerator", "devices", "strategy", "precision", "num_nodes"):
        value = getattr(config.trainer, key)
        if value != getattr(usual, key) and not _trainer_problem(replace(config.trainer, **{key: getattr(usual, key)})):
            raise InputError(f"trainer.{key}={value}: {problem}")
    raise InputError(f"trainer: {problem}")


def check_compile(config: Config) -> None:
    """Check that this machine can compile for the device of the run."""
    if config.model.compile:
        from microg_da.inference.trainer import resolve_device
        from microg_da.models.compilation import check_can_compile

        check_can_compile(resolve_device(config.trainer).type)


def _trainer_problem(trainer: TrainerConfig) -> str | None:
    import pytorch_lightning as pl

    from microg_da.inference.trainer import quiet

    off: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    refusals = (pl.utilities.exceptions.MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError)
    try:
        with quiet():
            pl.Trainer(**asdict(trainer), **off)
    except refusals as error:
        return first_line(error)
    return None


# -------------------------------------------------------------------------------------------------------- pieces


QUICK: tuple[tuple[tuple[str, ...], Callable[[Config], None]], ...] = (
    (("training", "augment", "data", "synthetic", "model", "adaptation", "evaluation", "logger", "seed"), check_config),
    (("adaptation", "model", "selection"), check_names),
    (("data",), check_taxonomy),
    (("data", "model", "checkpoint"), check_files),
    (("data", "synthetic", "model", "adaptation", "bounds", "checkpoint"), check_sources),
    (("logger",), check_loggers),
)
"""The checks that need no torch, each with the sections of the configuration that it reads."""

THOROUGH: tuple[tuple[tuple[str, ...], Callable[[Config], None]], ...] = (
    (("adaptation",), check_methods),
    (("model", "data", "adaptation"), check_model),
    (("model", "data", "adaptation", "selection", "bounds", "checkpoint", "target_supervised"), check_feature_store),
    (("model", "data", "checkpoint"), check_weights),
    (("trainer",), check_trainer),
    (("trainer", "model"), check_compile),
)
"""The checks that need torch, each with the sections of the configuration that it reads."""


class _Naming:
    """Prefix error messages of the block with a key, unless they contain the key."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, InputError) and self.key not in str(error):
            raise InputError(f"{self.key}: {error}") from error


def _among(key: str, value: str, valid: Iterable[str]) -> None:
    if value not in (names := list(valid)):
        raise unknown_name(key, value, names)


def _weight_files(config: Config) -> dict[str, str]:
    """Return the weight files that the run reads, by key."""
    files = {"model.checkpoint": config.model.checkpoint, "checkpoint": config.checkpoint}
    return {key: path for key, path in files.items() if path is not None}


def _detector_without_memory(config: Config) -> ActionDetector:
    """Build the configured detector on the meta device, without downloading weights.

    Raises:
        InputError: for an unknown option or an option that the network does not support.
    """
    import torch

    from microg_da.models.build import without_fetching
    from microg_da.runs.detectors import build_detector

    options = without_fetching(config.model.name, config.model.options)
    plan = replace(config, model=replace(config.model, options=options))
    try:
        with torch.device("meta"):
            return build_detector(plan)
    except InputError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, AssertionError) as error:
        # Builders pass options to libraries, which raise various exceptions.
        raise InputError(
            f"model.options={options}: {config.model.name} cannot be built ({first_line(error)}). "
            f"Correct or remove the options."
        ) from error
