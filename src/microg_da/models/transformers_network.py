"""Video encoders of Hugging Face's transformers as backbones: ``hf:NAME``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microg_da.errors import InputError, first_line, unknown_name
from microg_da.models.backbone import Backbone
from microg_da.models.transformers_encoder import TransformersEncoder
from microg_da.models.transformers_files import (
    PREFIX,
    NetworkFiles,
    Pixels,
    check_network_name,
    folder_weights,
    open_network,
)
from microg_da.models.weight_names import convert


def transformers_network(
    name: str,
    pretrained: bool = True,
    config: Mapping[str, Any] | None = None,
    pixels: Mapping[str, Any] | None = None,
    revision: str | None = None,
    temporal: str = "attention",
) -> Backbone:
    """Build an encoder of transformers: VideoMAE, V-JEPA 2, TimeSformer, or Hiera frame by frame.

    Weights are read only from safetensors, which must contain all weights of the encoder. Code of a repository is never
    run, because the network comes from the installed transformers.

    Args:
        name: a folder written by ``save_pretrained``, the name of a repository of the hub, or ``videomae``, ``vjepa2``,
            ``timesformer`` or ``hiera`` for the standard configuration of a family with random weights.
        pretrained: whether the weights of the folder or repository are loaded.
        config: entries that differ from the standard configuration of a family.
        pixels: ``mean``, ``std`` and ``rescale`` of the pixels, which replace those of the folder or the family.
        revision: branch, tag or commit of the repository.
        temporal: for Hiera, the combination of frames: ``"attention"``, ``"convolution"`` or ``"none"``.

    Raises:
        InputError: if transformers is not installed, the network does not exist, or its weights do not fit.
    """
    check_network_name(name, "model.name")
    files = open_network(name, revision, pretrained)
    if config and files.folder is not None:
        raise InputError(
            f"model.options.config: {PREFIX}{name} has its own configuration. Remove the option, or name a family: "
            f"{PREFIX}{files.family}."
        )
    backbone = _build(files, config or {}, _given_pixels(pixels) or files.pixels, temporal)
    if pretrained and files.folder is not None:
        _load(backbone, files.folder)
    return backbone


def described_network(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name and the options that build the same network without its folder or repository.

    Args:
        name: ``name`` of :func:`transformers_network`.
        options: its other arguments.
    """
    files = open_network(name, options.get("revision"), weights=False)
    if files.folder is None:
        return name, dict(options)
    described: dict[str, Any] = {key: value for key, value in options.items() if key not in ("revision", "pretrained")}
    described["config"] = {key: value for key, value in files.config.items() if key not in _NOT_OF_THE_ENCODER}
    if files.pixels is not None:
        pixels = files.pixels
        described.setdefault("pixels", {"mean": [*pixels.mean], "std": [*pixels.std], "rescale": pixels.rescale})
    return files.family, described


_NOT_OF_THE_ENCODER = ("architectures", "id2label", "label2id", "problem_type", "transformers_version", "_name_or_path")


def _build(files: NetworkFiles, given: Mapping[str, Any], pixels: Pixels | None, temporal: str) -> TransformersEncoder:
    import transformers

    from microg_da.models.transformers_families import FAMILIES

    kind = FAMILIES[files.family]
    config_class, network_class = (getattr(transformers, each) for each in kind.classes)
    known = config_class().to_dict()
    for key in given:
        if key not in known:
            raise unknown_name(f"entry of the configuration of {files.family}", str(key), known, "model.options.config")
    try:
        network = network_class(config_class.from_dict({**files.config, **given}))
    except InputError:
        raise
    except Exception as error:  # libraries check configurations and raise various exceptions
        where = f"{files.folder}/config.json" if files.folder else "model.options.config"
        raise InputError(f"{where}: invalid configuration of {files.family} ({first_line(error)[:300]}).") from error
    more = {"temporal": temporal} if "temporal" in inspect.signature(kind).parameters else {}
    return kind(network, pixels, **more)


def _given_pixels(given: Mapping[str, Any] | None) -> Pixels | None:
    if given is None:
        return None
    try:
        pixels = Pixels(tuple(given["mean"]), tuple(given["std"]), float(given.get("rescale", 1 / 255)))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"model.options.pixels={dict(given)}: expected mean and std, three numbers each.") from error
    return pixels


def _load(backbone: TransformersEncoder, folder: Path) -> None:
    """Load the weights of a folder into the encoder of a backbone."""
    wanted = {name: value for name, value in backbone.state_dict().items() if name.startswith("encoder.")}
    found = {
        name.removeprefix("backbone."): value
        for name, value in convert(folder_weights(folder), backbone).items()
        if not name.startswith("head.")
    }
    problems = {
        "missing from the folder": sorted(wanted.keys() - found.keys()),
        "unknown to the network": sorted(found.keys() - wanted.keys()),
        "of another shape": [name for name in found if name in wanted and found[name].shape != wanted[name].shape],
    }
    lines = [f"{len(names)} {kind}: {', '.join(names[:4])}" for kind, names in problems.items() if names]
    if lines:
        raise InputError(f"{folder}: the weights do not fit the configuration: {'; '.join(lines)}.")
    backbone.load_state_dict(found, strict=False)
