"""Video networks of torchvision: what is measured is true, frames are normalised as published, weights load."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model, get_model_weights, list_models, video

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.build import build_detector, without_fetching
from microg_da.models.checkpoints import compare
from microg_da.models.folding import fold_batch_norm

PAGE = Path(__file__).resolve().parents[2] / "docs" / "new_model.md"
SMALL = ["r3d_18", "mc3_18", "swin3d_t"]


@pytest.mark.parametrize("name", list_models(video))
def test_every_network_has_the_stride_and_the_channels_it_says(name):
    with torch.device("meta"):
        backbone = build_detector(f"torchvision:{name}", 4).backbone
        sizes = (16, 8 * 32, 5 * 32)
        (maps,) = backbone.eval()(torch.empty(2, 3, *sizes))
    assert maps.shape[:2] == (2, *backbone.channels)
    assert maps.shape[3:] == (sizes[1] / backbone.stride, sizes[2] / backbone.stride)
    modules = dict(backbone.named_modules())
    assert all(stage in modules for stage in backbone.stages)


@pytest.mark.parametrize("name", ["r3d_18", "swin3d_t"])
def test_the_classifier_of_torchvision_on_our_maps_is_torchvision(name):
    """The same weights, and pixels normalised as torchvision's own transforms do it."""
    torch.manual_seed(0)
    network = get_model(name).eval()
    backbone = build_detector(f"torchvision:{name}", 4).backbone.eval()
    backbone.load_state_dict(
        {key: value for key, value in network.state_dict().items() if key in backbone.state_dict()}
    )
    pixels = torch.rand(1, 3, 4, 64, 64)
    published = get_model_weights(name).DEFAULT.transforms()
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (published.mean, published.std))
    with torch.no_grad():
        (maps,) = backbone((pixels - 0.45) / 0.225)
        ours = (network.fc if name == "r3d_18" else network.head)(maps.mean(dim=(2, 3, 4)))
        torch.testing.assert_close(ours, network((pixels - mean) / std), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [*SMALL, "s3d"])
def test_a_file_of_torchvision_fits(tmp_path, name):
    torch.save(get_model(name).state_dict(), tmp_path / "weights.pth")
    with torch.device("meta"):
        detector = build_detector(f"torchvision:{name}", 50)
    _, report = compare(detector, tmp_path / "weights.pth")
    assert report.fits
    assert report.replaced


@pytest.mark.parametrize("name", ["r3d_18", "swin3d_t"])
def test_freezing_adapters_and_folding_work(name):
    torch.manual_seed(0)
    detector = create_detector(f"torchvision:{name}", 3, adapters="dual_path").eval()
    plain = create_detector(f"torchvision:{name}", 3, freeze=1).eval()
    plain.load_state_dict({key: value for key, value in detector.state_dict().items() if key in plain.state_dict()})
    clip = (
        torch.randint(0, 255, (1, 3, 4, 64, 64), dtype=torch.uint8),
        torch.tensor([[4.0, 4, 40, 60]]),
        torch.tensor([0]),
    )
    with torch.no_grad():
        expected = plain(*clip).logits
        torch.testing.assert_close(detector(*clip).logits, expected)  # adapters start as the identity
        torch.testing.assert_close(fold_batch_norm(plain, 4, 64)(*clip).logits, expected, rtol=1e-3, atol=1e-4)
    assert 0 < sum(p.requires_grad for p in plain.parameters()) < len(list(plain.parameters()))


def test_a_window_that_is_too_short_is_refused():
    detector = create_detector("torchvision:s3d", 3).eval()
    box, index = torch.tensor([[4.0, 4, 40, 60]]), torch.tensor([0])
    with torch.no_grad():
        assert detector(torch.zeros(1, 3, 8, 64, 64), box, index).logits.shape == (1, 3)
        with pytest.raises(InputError, match="8 frames"):
            detector(torch.zeros(1, 3, 7, 64, 64), box, index)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("torchvision:r3d_81", {}, "r3d_18"),
        ("torchvision:resnet18", {}, "r3d_18"),
        ("torchvision:r3d_18", {"weights": "KINETICS"}, "KINETICS400_V1"),
        ("torchvision:r3d_18", {"pretrained": True}, "weights"),
    ],
)
def test_unknown_names_are_refused(name, options, said):
    with pytest.raises(InputError, match=said):
        create_detector(name, **options)


def test_weights_are_not_fetched_where_a_file_has_them():
    assert without_fetching("torchvision:r3d_18", {"weights": "DEFAULT"}) == {"weights": None}
    assert without_fetching("timm:resnet18", {"pretrained": True, "temporal": "none"}) == {
        "pretrained": False,
        "temporal": "none",
    }
    assert without_fetching("lab.networks:mine", {"weights": 3}) == {"weights": 3}


def test_the_network_of_the_page_is_that_of_the_package(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "my_page_lab.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    page = create_detector("my_page_lab:R3D18", 5).eval()
    own = create_detector("torchvision:r3d_18", 5).eval()
    own.load_state_dict(page.state_dict())
    clip = (
        torch.randint(0, 255, (1, 3, 4, 64, 64), dtype=torch.uint8),
        torch.tensor([[4.0, 4, 40, 60]]),
        torch.tensor([0]),
    )
    with torch.no_grad():
        torch.testing.assert_close(page(*clip).logits, own(*clip).logits, rtol=1e-4, atol=1e-5)
    assert page.head.stride == own.head.stride
    del sys.modules["my_page_lab"]
