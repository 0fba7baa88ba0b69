"""Description from which a detector can be rebuilt, stored with the weights in the files of a run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from microg_da.errors import InputError
from microg_da.models.build import build_detector, without_fetching
from microg_da.models.catalogue import LIBRARIES
from microg_da.models.detector import ActionDetector
from microg_da.models.packages import packaged
from microg_da.models.transformers_files import PREFIX
from microg_da.models.weight_kinds import EXPORTED_WEIGHTS, weight_kind
from microg_da.registry import is_path
from microg_da.taxonomy import get_taxonomy
from microg_da.zoo import usual_test_side

FORMAT = "microg_da"
"""The name of the format in files of this package."""

EXPORTED_CONFIG = "config.json"

_SINCE = ("action_ids", "action_names", "head", "head_args", "test_short_side")
"""Optional entries, which files of older versions may lack."""


@dataclass(frozen=True)
class DetectorDescription:
    """A detector without its weights, and its preprocessing of clips.

    Attributes:
        model: a name of ``python -m microg_da list models``, ``timm:NAME``, ``torchvision:NAME``,
            ``hf:NAME`` or ``package.module:function``.
        num_classes: logits per person.
        taxonomy: the name of the taxonomy of the logits.
        num_frames: T of the window.
        sampling_rate: τ of the window.
        image_size: the training crop, in pixels.
        dropout: rate before the linear layer.
        roi_stride: see :class:`~microg_da.models.detector.ActionDetector`.
        adapters: ``"lora"``, ``"dual_path"`` or None.
        adapter_rank: the inner width of the adapters.
        roll_pooling: ``"c4"``, ``"c8"`` or None.
        options: arguments of the backbone's builder.
        action_ids: the action id of each output, in the order of the logits.
        action_names: the name of each output.
        head: kind of head, a key of :data:`~microg_da.models.heads.HEADS`.
        head_args: arguments of the head.
        test_short_side: short side of frames in tests, in pixels; 0 for 8/7 of ``image_size``.
    """

    model: str
    num_classes: int
    taxonomy: str
    num_frames: int
    sampling_rate: int
    image_size: int
    dropout: float
    roi_stride: str | bool | float
    adapters: str | None
    adapter_rank: int
    roll_pooling: str | None
    options: dict[str, Any] = field(default_factory=dict)
    action_ids: tuple[int, ...] = ()
    action_names: tuple[str, ...] = ()
    head: str = "roi"
    head_args: dict[str, Any] = field(default_factory=dict)
    test_short_side: int = 0

    def __post_init__(self) -> None:
        # Files of older versions contain only the name of the taxonomy; JSON converts tuples to lists.
        taxonomy = None if self.action_ids and self.action_names else get_taxonomy(self.taxonomy)
        ids, names = (taxonomy.ids, taxonomy.names) if taxonomy else (self.action_ids, self.action_names)
        object.__setattr__(self, "action_ids", tuple(ids))
        object.__setattr__(self, "action_names", tuple(names))
        object.__setattr__(self, "test_short_side", self.test_short_side or usual_test_side(self.image_size))

    def build(self, named: str | None = None) -> ActionDetector:
        """Build the detector with random weights, without downloads.

        Args:
            named: the model that the user named.

        Raises:
            InputError: if the model is ``package.module:function`` and the user did not name it, because a file must
                not decide which code is imported.
        """
        if is_path(self.model) and not self.model.startswith(LIBRARIES) and self.model != named:
            raise InputError(
                f"the network of the detector needs {self.model}, which is code of another package. If you trust the "
                f"code, name the model: {self.model}."
            )
        # Weights come from the file, so libraries must not download weights.
        options = without_fetching(self.model, self.options)
        return build_detector(
            self.model,
            self.num_classes,
            dropout=self.dropout,
            roi_stride=self.roi_stride,
            adapters=self.adapters,
            adapter_rank=self.adapter_rank,
            roll_pooling=self.roll_pooling,
            head=self.head,
            head_args=self.head_args,
            **options,
        )

    def self_contained(self) -> DetectorDescription:
        """Return a description that does not need the folder or the hub of a network to build the detector.

        Raises:
            InputError: if the folder does not exist.
        """
        if not self.model.startswith(PREFIX):
            return self
        from microg_da.models.transformers_network import described_network

        family, options = described_network(self.model.removeprefix(PREFIX), self.options)
        return replace(self, model=f"{PREFIX}{family}", options=options)

    def as_dict(self) -> dict[str, object]:
        """Return the description as plain containers for JSON and weight files."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str | Path) -> DetectorDescription:
        """Create a description from the output of :meth:`as_dict`; other keys are ignored.

        Raises:
            InputError: if an entry is missing, as in files of older versions, or the taxonomy has changed.
        """
        known = {item.name: content[item.name] for item in fields(cls) if item.name in content}
        missing = [item.name for item in fields(cls) if item.name not in known and item.name not in _SINCE]
        if missing:
            raise InputError(
                f"{where}: the description of the detector has no {', '.join(missing)}. An older version may have "
                f"written the file. Use the folder of the run instead: --run RUN."
            )
        description = cls(**known)
        taxonomy = get_taxonomy(description.taxonomy)
        if len(taxonomy) != description.num_classes or description.action_ids != taxonomy.ids:
            raise InputError(
                f"{where}: the {description.num_classes} outputs differ from the {len(taxonomy)} classes of taxonomy "
                f"{taxonomy.name} in this version. Use the version of microg_da that wrote the file."
            )
        return description


def read_description(path: str | Path) -> dict[str, object] | None:
    """Return the description in a file or folder of this package; None for other files.

    Args:
        path: a run's ``detector.pt``, an exported folder or the ``model.safetensors`` in it, or another file, which is
            checked by the code that loads it.

    Raises:
        InputError: if there is no such weight file, or the folder's ``config.json`` cannot be read.
    """
    if packaged(path):
        return None
    path, _ = weight_kind(path)
    content = _beside(path) if path.name == EXPORTED_WEIGHTS else _inside(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    return {key: value for key, value in content.items() if key != "state_dict"}


def _beside(path: Path) -> object:
    file = path.parent / EXPORTED_CONFIG
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: not readable as JSON ({error}). Export the run again.") from error


def _inside(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, pickle.UnpicklingError):
        return None
