"""Construction of a detector from a name and options, with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_type_hints

from microg_da.errors import InputError, unknown_name
from microg_da.models.adapters import add_adapters, freeze_stages
from microg_da.models.backbone import Backbone
from microg_da.models.catalogue import MODELS
from microg_da.models.detector import AUTO_STRIDE, ActionDetector, resolve_stride
from microg_da.models.heads import head_arguments, make_head
from microg_da.models.roll_pooling import RollPooledDetector


def build_detector(
    name: str,
    num_classes: int,
    *,
    dropout: float = 0.5,
    roi_stride: str | bool | float = AUTO_STRIDE,
    freeze: int | str = 0,
    adapters: str | None = None,
    adapter_rank: int = 8,
    roll_pooling: str | None = None,
    head: str = "roi",
    head_args: Mapping[str, Any] | None = None,
    **options: object,
) -> ActionDetector:
    """Build a detector with random weights, in training mode; arguments as :func:`~microg_da.models.create_detector`.

    Raises:
        InputError: for an unknown name or option.
    """
    arguments = head_arguments(head, head_args or {})  # errors in the arguments are found before weights are read
    backbone = _build_backbone(name, options)
    made = make_head(arguments, backbone.channels, num_classes, resolve_stride(roi_stride, backbone.stride), dropout)
    if roll_pooling is None:
        detector = ActionDetector(backbone, num_classes, head=made)
    else:
        detector = RollPooledDetector(backbone, num_classes, head=made, group=roll_pooling)
    freeze_stages(detector.backbone, freeze)
    if adapters is not None:
        add_adapters(detector.backbone, adapters, adapter_rank)
    detector.train()
    return detector


def _build_backbone(name: str, options: Mapping[str, object]) -> Backbone:
    builder = _builder(name)
    known = inspect.signature(builder).parameters
    for option in options:
        if option not in known:
            valid = [*known, *_DETECTOR_OPTIONS]
            raise unknown_name(f"option of {name}", option, valid, where="model.options")
    backbone = builder(**options)
    if not isinstance(backbone, Backbone):
        raise InputError(f"model {name!r}: the builder returned {type(backbone).__name__}, expected a Backbone.")
    return backbone


def _builder(name: str) -> Callable[..., Backbone]:
    library, _, network = name.partition(":")
    if library == "timm":
        from microg_da.models.timm_encoder import TimmEncoder

        return partial(TimmEncoder, network)
    if library == "torchvision":
        from microg_da.models.torchvision_network import torchvision_network

        return partial(torchvision_network, network)
    if library == "hf":
        from microg_da.models.transformers_network import transformers_network

        return partial(transformers_network, network)
    builder: Callable[..., Backbone] = MODELS.load(name, where="model.name")
    return builder


def check_outside_builder(what: str, found: Any) -> None:
    """Check that an object from outside the package is annotated as a builder of a backbone.

    A weight file or a configuration may name any function. Only a function with this annotation is called.

    Args:
        what: the start of the error message, e.g. ``"model 'package.module:Name'"``.
        found: the object.

    Raises:
        InputError: if it is neither a subclass of :class:`~microg_da.models.backbone.Backbone` nor a function that is
            annotated to return one.
    """
    made: Any = found
    if not isinstance(found, type):
        try:
            hints: dict[str, Any] = get_type_hints(found)
            made = hints.get("return")
        except (NameError, TypeError, AttributeError):  # an annotation with an undefined name, or not a function
            made = None
    if not (isinstance(made, type) and issubclass(made, Backbone)):
        raise InputError(
            f"{what}: expected a class derived from microg_da.models.backbone.Backbone, or a function that is "
            f"annotated to return one (`-> Backbone`), found {found!r}."
        )


def without_fetching(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a model without downloads of weights.

    Args:
        name: the name of the model.
        options: arguments of the builder.
    """
    library = name.partition(":")[0]
    off = _FETCHING.get(library, {})
    # Builders that download weights by default need the option to disable it.
    return {**(off if library == "hf" else {}), **{key: off.get(key, value) for key, value in options.items()}}


_FETCHING: dict[str, dict[str, Any]] = {
    "timm": {"pretrained": False},
    "torchvision": {"weights": None},
    "hf": {"pretrained": False},
}
"""Values of the options of libraries that disable downloads of weights."""

_DETECTOR_OPTIONS = (
    "allow_missing",
    "skip_weights",
    "roi_stride",
    "freeze",
    "adapters",
    "adapter_rank",
    "roll_pooling",
    "head",
    "head_args",
)
