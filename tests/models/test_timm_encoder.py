"""Image encoders of timm as detectors: what they see, how frames meet, where weights come from."""

from __future__ import annotations

import pytest
import timm
import torch

from microg_da.config import TrainingConfig
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.backbone import MEAN, STD
from microg_da.models.checkpoints import compare
from microg_da.models.timm_encoder import TemporalAttention, TemporalConvolution
from microg_da.training.optimizer import build_optimizer

BOXES = torch.tensor([[4.0, 4.0, 30.0, 60.0], [10.0, 0.0, 90.0, 64.0]])
INDEX = torch.tensor([0, 1])


def frames(T=3, height=64, width=96):
    return torch.randn(2, 3, T, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("resnet10t", 32),
        ("test_vit", 16),
        ("test_convnext", 32),
        ("vit_tiny_patch16_224", 16),
        ("test_efficientnet", 32),
    ],
)
def test_encoders_become_detectors(name, stride):
    detector = create_detector(f"timm:{name}", 7).eval()
    assert detector.backbone.stride == detector.head.stride == stride
    assert detector(frames(), BOXES, INDEX).logits.shape == (2, 7)
    (maps,) = detector.backbone(frames())
    assert maps.shape[2:] == (3, 64 // stride, 96 // stride)
    # Everything that is left of the encoder is used.
    detector(frames(), BOXES, INDEX).logits.sum().backward()
    assert [k for k, p in detector.named_parameters() if p.grad is None] == []


def test_transformers_pad_what_is_no_multiple_of_their_patches():
    detector = create_detector("timm:test_vit", temporal="none").eval()
    (maps,) = detector.backbone(frames(width=100))
    assert maps.shape[2:] == (3, 4, 7)


def test_each_frame_is_encoded_as_timm_encodes_an_image():
    encoder = timm.create_model("resnet10t").eval()
    detector = create_detector("timm:resnet10t", temporal="none").eval()
    detector.backbone.encoder.load_state_dict(encoder.state_dict(), strict=False)
    clip = torch.rand(2, 3, 3, 64, 64)
    mean, std = (torch.tensor(encoder.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    (maps,) = detector.backbone((clip - MEAN) / STD)
    expected = encoder.forward_features((clip[1:, :, 2] - mean) / std)
    torch.testing.assert_close(maps[1:, :, 2], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "native"), [("vit_tiny_patch16_dinov3_qkvb", 256), ("vit_base_patch16_siglip_gap_256", 256)]
)
def test_dinov3_and_siglip_as_in_timm_and_at_any_size(name, native):
    """DINOv3 turns queries and keys by their places, SigLIP has a table of places; two blocks of each."""
    torch.manual_seed(0)
    encoder = timm.create_model(name, depth=2).eval()
    detector = create_detector(f"timm:{name}", 3, temporal="none").eval()
    own = detector.backbone.encoder
    own.blocks = own.blocks[:2]
    own.load_state_dict({key: x for key, x in encoder.state_dict().items() if key in own.state_dict()})
    clip = torch.rand(1, 3, 2, native, native)
    mean, std = (torch.tensor(encoder.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        (maps,) = detector.backbone((clip - MEAN) / STD)
        tokens = encoder.forward_features((clip[:, :, 1] - mean) / std)[:, encoder.num_prefix_tokens :]
        torch.testing.assert_close(maps[0, :, 1].flatten(1).T, tokens[0], atol=1e-4, rtol=1e-4)
        (other,) = detector.backbone(frames(T=2, height=70, width=120))
    assert other.shape == (2, encoder.num_features, 2, 5, 8)
    assert other.isfinite().all()


def test_a_file_of_an_encoder_without_a_head_starts_a_detector(tmp_path):
    """Self-supervised encoders are published without a classifier."""
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "encoder.pth")
    detector = create_detector("timm:test_vit", checkpoint=tmp_path / "encoder.pth")
    _, report = compare(detector, tmp_path / "encoder.pth")
    assert report.fits
    assert any("head" in note for note in report.notes)
    other = timm.create_model("test_vit", num_classes=0).state_dict()
    del other["blocks.0.norm1.weight"]
    torch.save(other, tmp_path / "part.pth")
    with pytest.raises(InputError, match=r"blocks\.0\.norm1\.weight"):
        create_detector("timm:test_vit", checkpoint=tmp_path / "part.pth")


@pytest.mark.parametrize("name", ["test_vit", "resnet10t", "test_efficientnet"])
def test_a_frozen_encoder_keeps_nothing_and_learns_nothing(name):
    torch.manual_seed(0)
    detector = create_detector(
        f"timm:{name}", 4, freeze="all", head="attentive", temporal="none", head_args={"width": 16}
    )
    assert detector.is_frozen
    assert not any(module.training for module in detector.backbone.encoder.modules())
    assert detector.head.training
    before = {key: value.clone() for key, value in detector.backbone.state_dict().items()}
    optimizer = build_optimizer(detector, TrainingConfig(lr=0.1))
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        (maps,) = detector.backbone(frames())
    assert kept == []
    assert not maps.requires_grad
    logits = detector(frames(), BOXES, INDEX).logits
    first = logits.detach()
    logits.square().sum().backward()
    optimizer.step()
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in detector.head.parameters()}
    assert all(torch.equal(value, before[key]) for key, value in detector.backbone.state_dict().items())
    assert not torch.equal(detector(frames(), BOXES, INDEX).logits, first)
    assert not create_detector(f"timm:{name}", 4, freeze="all").is_frozen  # frames meet in a part that is trained


@pytest.mark.parametrize("module", [TemporalAttention(8, head_dim=4), TemporalConvolution(8)])
def test_temporal_modules_start_as_the_identity_and_see_order(module):
    x = torch.randn(2, 8, 5, 3, 2)
    torch.testing.assert_close(module(x), x)
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    forward, backward = module(x).mean(2), module(x.flip(2)).mean(2)
    assert not torch.allclose(forward, backward, atol=1e-3)
    # Places do not mix.
    y = x.clone()
    y[..., 0, 0] += 1
    difference = (module(y) - module(x)).abs().amax(dim=(0, 1, 2))
    assert difference[0, 0] > 1e-3
    assert difference[1:].max() < 1e-5


def test_a_local_file_of_timm_loads_and_its_classifier_is_the_head(tmp_path):
    encoder = timm.create_model("resnet10t")
    torch.save(encoder.state_dict(), tmp_path / "resnet10t.pth")
    detector = create_detector("timm:resnet10t", checkpoint=tmp_path / "resnet10t.pth")
    ours = detector.backbone.encoder.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in encoder.state_dict().items() if name in ours)
    assert set(encoder.state_dict()) - set(ours) == {"fc.weight", "fc.bias"}


def test_mistakes():
    with pytest.raises(InputError, match="timm:resnet18"):
        create_detector("timm:resnet_18")
    with pytest.raises(InputError, match=r"model\.options\.temporal.*'average'"):
        create_detector("timm:resnet10t", temporal="average")
    with pytest.raises(InputError, match="temporal"):
        create_detector("timm:resnet10t", temporl="none")
