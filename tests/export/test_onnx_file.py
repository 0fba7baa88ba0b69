"""ONNX: the file says what torch says, for any number of clips and boxes, and is not kept otherwise."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from microg_da.errors import InputError
from microg_da.export import export_run, onnx_file
from microg_da.export.onnx_file import export_onnx
from microg_da.models import create_detector
from microg_da.models.attentive_head import BOX_KINDS
from microg_da.runs.detectors import load_run_detector
from microg_da.taxonomy import get_taxonomy

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
new_enough = pytest.mark.skipif(not hasattr(torch.export.Dim, "DYNAMIC"), reason="ONNX needs torch 2.6")


@new_enough
def test_logits_are_torchs_for_any_clips_boxes_and_size_and_a_file_that_disagrees_goes(make_run, tmp_path, monkeypatch):
    run = make_run()
    folder = tmp_path / "out"
    exported = export_run(run.path, folder, onnx=True, onnx_size=(32, 40))
    made, detector = exported.onnx, load_run_detector(run.path).detector
    assert made.frames == ("B", 3, 4, "H", "W")
    assert made.difference <= 1e-4
    assert made.largest_logit > 0.1
    assert made.size == (folder / "model.onnx").stat().st_size
    assert f"{made.difference:.1e}" in (folder / "README.md").read_text()
    session = ort.InferenceSession(str(folder / "model.onnx"))
    metadata = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert metadata == json.loads((folder / "config.json").read_text())
    assert metadata["taxonomy"] == "microg50"
    assert metadata["action_names"][metadata["action_ids"].index(12)] == get_taxonomy("microg50").label(12)
    rng = np.random.default_rng(0)
    for clips, people, height, width in [(1, 1, 32, 40), (3, 7, 48, 33), (2, 0, 32, 32)]:
        frames = rng.integers(0, 256, (clips, 3, 4, height, width), np.uint8)
        corners = np.sort(rng.random((people, 2, 2), np.float32), axis=1) * np.float32([width, height])
        boxes, index = corners.reshape(people, 4), rng.integers(0, clips, people)
        (found,) = session.run(None, {"frames": frames, "boxes": boxes, "clip_index": index})
        wanted = detector(*map(torch.from_numpy, (frames, boxes, index))).logits.detach().numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-4)

    # The same file for a detector whose head says something else.
    model = SimpleNamespace(metadata_props={})
    other = SimpleNamespace(model=model, save=lambda path: shutil.copyfile(folder / "model.onnx", path))
    monkeypatch.setattr(onnx_file, "_program", lambda *_: other)
    detector.head.projection.bias.data[7] += 0.002
    with pytest.raises(InputError, match=r"\b0\.002"):
        export_onnx(detector, folder / "wrong.onnx", 4, (32, 40))
    assert len(list(folder.iterdir())) == 5


@new_enough
@pytest.mark.slow
@pytest.mark.parametrize("box", BOX_KINDS)
def test_an_attentive_head(tmp_path, box):
    torch.manual_seed(0)
    arguments = {"box": box, "queries": 2, "width": 16, "heads": 2}
    detector = create_detector("r2plus1d_tiny", 6, head="attentive", head_args=arguments, width=[4, 8, 8, 8]).eval()
    for parameter in detector.head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert export_onnx(detector, tmp_path / "model.onnx", 4, (32, 40)).largest_logit > 0.1
    session = ort.InferenceSession(str(tmp_path / "model.onnx"))
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 48, 33), np.uint8)
    # Whole frame, an empty box, one that is outside the picture.
    boxes = np.float32([[0, 0, 33, 48], [5, 5, 5, 5], [40, 60, 50, 70]])
    index = np.array([1, 0, 1])
    (found,) = session.run(None, {"frames": frames, "boxes": boxes, "clip_index": index})
    wanted = detector(*map(torch.from_numpy, (frames, boxes, index))).logits.detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_what_cannot_be_written_says_so(detector, tmp_path, monkeypatch):
    rolled = create_detector("r2plus1d_tiny", roll_pooling="c8")
    with pytest.raises(InputError, match=r"model\.roll_pooling=c8"):
        export_onnx(rolled, tmp_path / "model.onnx", 4, (32, 32))
    monkeypatch.delattr(torch.export.Dim, "DYNAMIC", raising=False)
    with pytest.raises(InputError, match=r"torch 2\.6"):
        export_onnx(detector, tmp_path / "model.onnx", 4, (32, 32))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(InputError, match=r"\bonnxscript\b.*'microg_da\[onnx\]'"):
        export_onnx(detector, tmp_path / "model.onnx", 4, (32, 32))
    assert not list(tmp_path.iterdir())
