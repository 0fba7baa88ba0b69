"""The folder of `export`: weights, their description, a model card with scores, and optionally ONNX."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from microg_da.errors import InputError
from microg_da.export.model_card import write_model_card
from microg_da.export.onnx_file import OnnxFile, export_onnx
from microg_da.files import replacing, to_json, write_json
from microg_da.models.backbone import MEAN, STD
from microg_da.models.description import EXPORTED_CONFIG
from microg_da.models.detector import ActionDetector
from microg_da.models.weight_kinds import EXPORTED_WEIGHTS
from microg_da.runs.detectors import RunDetector, describe_detector, load_run_detector, test_time_method
from microg_da.runs.layout import RunFolder
from microg_da.taxonomy import get_taxonomy
from microg_da.types import Variant

ONNX_FILE = "model.onnx"


@dataclass(frozen=True)
class ExportedRun:
    """Result of an export.

    Attributes:
        path: the folder.
        variant: the variant of the exported detector.
        test_time_method: the test-time method with which the variant was tested, or None.
        onnx: the ONNX file, if requested.
    """

    path: Path
    variant: Variant
    test_time_method: str | None
    onnx: OnnxFile | None


def export_run(
    run_folder: str | Path,
    to: str | Path,
    *,
    variant: str | None = None,
    onnx: bool = False,
    onnx_size: tuple[int, int] | None = None,
) -> ExportedRun:
    """Export one detector of a run as a folder for the Hugging Face Hub.

    Args:
        run_folder: ``runs/<experiment>/<name>``.
        to: the new folder. An earlier export is replaced.
        variant: ``source_only``, ``adapted`` or ``target_supervised``; None for the adapted detector if there is one.
        onnx: also write ``model.onnx``.
        onnx_size: height and width of the ONNX frames; None for a square with the short side of test clips.

    Raises:
        InputError: if the run has no such detector, the folder contains a run, or ONNX cannot be written.
    """
    loaded = load_run_detector(run_folder, variant)
    to = Path(to)
    if RunFolder(to).record_file.exists() or (to.exists() and not to.is_dir()):
        raise InputError(f"--to {to}: expected a new folder, found a run or a file.")
    at_test = test_time_method(loaded.run.config, loaded.predictor.method)
    content = _config(loaded, at_test)
    # ONNX is written first, so that a failed ONNX export leaves no folder that looks complete.
    made = None
    (to / ONNX_FILE).unlink(missing_ok=True)
    if onnx:
        side = describe_detector(loaded.run.config).test_short_side
        metadata = {key: to_json(value) for key, value in content.items()}
        num_frames = loaded.run.config.model.num_frames
        made = export_onnx(loaded.detector, to / ONNX_FILE, num_frames, onnx_size or (side, side), metadata)
    _write_weights(loaded.detector, to / EXPORTED_WEIGHTS)
    with replacing(to / "config.yaml") as temporary:
        shutil.copyfile(loaded.run.config_file, temporary)
    write_model_card(to / "README.md", loaded, at_test, made)
    # This file marks the folder as a complete export, so it is written last.
    write_json(to / EXPORTED_CONFIG, content)
    return ExportedRun(to, loaded.variant, at_test, made)


def _config(loaded: RunDetector, at_test: str | None) -> dict[str, object]:
    """Return the facts that are needed to rebuild the detector and to prepare its inputs."""
    description = describe_detector(loaded.run.config)
    taxonomy = get_taxonomy(description.taxonomy)
    return {
        **description.as_dict(),
        "action_groups": list(taxonomy.groups),
        "normalisation": {"channels": "RGB", "range": [0, 1], "mean": [MEAN] * 3, "std": [STD] * 3},
        "variant": loaded.variant,
        "test_time_method": at_test,
    }


def _write_weights(detector: ActionDetector, path: Path) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise InputError("export needs the package safetensors: pip install 'microg_da[export]'.") from error
    # Tensors are copied, because some networks have views or tensors that are not contiguous.
    state = {name: x.detach().clone(memory_format=torch.contiguous_format) for name, x in detector.state_dict().items()}
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
