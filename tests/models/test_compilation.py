"""Compiled backbones compute what they computed before, and what cannot be compiled is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.models import compilation, create_detector
from microg_da.models.activation_checkpointing import checkpoint_stages
from microg_da.models.compilation import check_can_compile, compile_backbone
from microg_da.runs.detectors import build_detector

CLIP = torch.randint(0, 255, (2, 3, 4, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PEOPLE = torch.tensor([[4.0, 4.0, 30.0, 30.0], [10.0, 0.0, 40.0, 32.0]]), torch.tensor([0, 1])
V_JEPA2 = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "crop_size": 32, "patch_size": 8,
    "frames_per_clip": 4, "pred_hidden_size": 12, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
}  # fmt: skip
TIMESFORMER = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32,
    "patch_size": 8, "num_frames": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("r2plus1d_micro", {"freeze": "all", "head": "attentive", "head_args": {"width": 16}}),
        ("r2plus1d_micro", {"adapters": "dual_path"}),
        ("hf:vjepa2", {"config": V_JEPA2, "adapters": "dual_path"}),
        ("hf:timesformer", {"config": TIMESFORMER}),
    ],
)
def test_a_compiled_detector_is_the_detector(name, options):
    """The compiler's own steps, without the code that it would write at last: that takes minutes."""
    if name.startswith("hf:"):
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    plain = create_detector(name, 5, **options).eval()
    compiled = copy.deepcopy(plain)
    compile_backbone(compiled.backbone, backend="aot_eager")
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    torch._dynamo.utils.counters.clear()
    for detector in (plain, compiled):
        detector(CLIP, *PEOPLE).logits.square().sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]
    torch.testing.assert_close(compiled(CLIP, *PEOPLE).logits, plain(CLIP, *PEOPLE).logits, atol=1e-5, rtol=1e-5)
    for (key, wanted), found in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert (wanted.grad is None) == (found.grad is None), key
        if wanted.grad is not None:
            torch.testing.assert_close(found.grad, wanted.grad, atol=1e-5, rtol=1e-4, msg=key)


def test_a_configured_detector_is_compiled_and_its_copies_are_not():
    detector = build_detector(load_config("ava2microg", ["model.compile=true"]))
    assert detector.backbone._compiled_call_impl is not None
    assert getattr(copy.deepcopy(detector).backbone, "_compiled_call_impl", None) is None
    assert build_detector(load_config("ava2microg")).backbone._compiled_call_impl is None


def test_what_cannot_be_compiled(monkeypatch):
    with pytest.raises(InputError, match=r"model\.compile=true.*activation_checkpointing=false"):
        load_config("ava2microg", ["model.compile=true", "training.activation_checkpointing=true"])
    detector = create_detector("r2plus1d_micro")
    checkpoint_stages(detector.backbone)
    with pytest.raises(InputError, match="activation checkpoints"):
        compile_backbone(detector.backbone)
    with pytest.raises(InputError, match="mps"):
        check_can_compile("mps")
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"C\+\+ compiler.*model\.compile=false"):
        check_can_compile("cpu")
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="triton"):
        check_can_compile("cuda")
