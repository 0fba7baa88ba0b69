"""The registry of detectors, built from the table of facts."""

from microg_da.models.transformers_files import PREFIX, check_network_name
from microg_da.registry import Entry, Registry
from microg_da.zoo import ZOO, ZooModel


def _entry(model: ZooModel) -> Entry:
    """Return the registry line of a model."""
    published = f" (published {model.published_window})" if model.published_window else ""
    return Entry(
        f"microg_da.models.{model.builder}",
        model.summary,
        {
            "parameters": f"{model.parameters:,}",
            "GFLOPs": f"{model.gflops:.4g}",
            "test crop": str(model.crop),
            "window": f"{model.window}{published}",
            "stride": str(model.stride),
        },
    )


MODELS = Registry(
    "model",
    {name: _entry(model) for name, model in ZOO.items()},
    group="microg_da.models",
    check="microg_da.models.build:check_outside_builder",
)

LIBRARIES = ("timm:", "torchvision:", "hf:")
"""Prefixes of the names of networks from other libraries, which define the names."""


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the detectors of this package and of installed packages with entry points.

    Example:
        >>> from microg_da import list_models
        >>> list_models("slow_*")
        ['slow_r50_8x8', 'slow_r50_4x16']

    Args:
        pattern: a shell-style pattern.
    """
    return MODELS.names(pattern)


def check_model_name(name: str, where: str) -> None:
    """Check the name of a model, but not names of other libraries.

    Raises:
        InputError: for an unknown name. The message contains the nearest valid name.
    """
    if name.startswith(PREFIX):
        check_network_name(name.removeprefix(PREFIX), where)
    elif not name.startswith(LIBRARIES):
        MODELS.entry(name, where)
