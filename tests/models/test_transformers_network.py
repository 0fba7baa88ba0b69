"""Encoders of transformers as detectors: what they compute, at which sizes, and which weights they take."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.backbone import MEAN, STD
from microg_da.models.build import without_fetching
from microg_da.models.description import DetectorDescription
from microg_da.models.transformers_encoder import interpolate_positions

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    "videomae": {**SIZES, "intermediate_size": 32, "image_size": 32, "patch_size": 8, "num_frames": 4},
    "vjepa2": {**SIZES, "crop_size": 32, "patch_size": 8, "frames_per_clip": 8, "pred_hidden_size": 12,
               "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1},
    "timesformer": {**SIZES, "intermediate_size": 32, "image_size": 32, "patch_size": 8, "num_frames": 4},
    "hiera": {"embed_dim": 8, "image_size": [64, 64], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
}  # fmt: skip
NATIVE = {"videomae": (4, 32, 32), "vjepa2": (8, 32, 32), "timesformer": (4, 32, 32), "hiera": (3, 64, 64)}
STRIDE = {"videomae": (2, 8), "vjepa2": (2, 8), "timesformer": (1, 8), "hiera": (1, 32)}
FAMILIES = list(CONFIGS)
CLASSES = {"videomae": "VideoMAE", "vjepa2": "VJEPA2", "timesformer": "Timesformer", "hiera": "Hiera"}
BOXES, INDEX = torch.tensor([[2.0, 2.0, 20.0, 30.0], [8.0, 0.0, 30.0, 28.0]]), torch.tensor([0, 1])


def network(family: str, kind: str = "Model"):
    """The network of transformers with random weights, biases and positions included."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{CLASSES[family]}Config")(**CONFIGS[family])
    made = getattr(transformers, f"{CLASSES[family]}{kind}")(config).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The networks as transformers saves them, with a normalisation of their own."""
    root = tmp_path_factory.mktemp("networks")
    for family in FAMILIES:
        network(family).save_pretrained(root / family)
        said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
        (root / family / "preprocessor_config.json").write_text(json.dumps(said))
    return root


def detector_of(folders, family, **options):
    return create_detector(
        f"hf:{folders / family}", 5, **({"temporal": "none"} if family == "hiera" else {}), **options
    )


def clip(T, height, width, count=2):
    return torch.rand(count, 3, T, height, width, generator=torch.Generator().manual_seed(1))


def theirs(made, pixels):
    """Tokens of the last layer, as transformers computes them of normalised pixels ``(B, 3, T, H, W)``."""
    frames = pixels.transpose(1, 2)
    with torch.no_grad():
        if made.config.model_type == "vjepa2":
            return made(frames, skip_predictor=True).last_hidden_state
        if made.config.model_type == "hiera":
            images = made(frames.flatten(0, 1), interpolate_pos_encoding=True).last_hidden_state
            return images.unflatten(0, frames.shape[:2])
        return made(frames).last_hidden_state


def normalised_like_the_folder(pixels):
    mean, std = (torch.tensor(v)[:, None, None, None] for v in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    return (pixels - mean) / std


def folded(family, tokens, T, H, W):
    if family == "timesformer":  # a class token, then rows, columns and frames
        return tokens[:, 1:].reshape(len(tokens), H, W, T, -1).permute(0, 4, 3, 1, 2)
    return tokens.reshape(len(tokens), T, H, W, -1).permute(0, 4, 1, 2, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_the_tokens_of_transformers(folders, family):
    detector = detector_of(folders, family).eval()
    T, height, width = NATIVE[family]
    pixels = clip(T, height, width)
    with torch.no_grad():
        (maps,) = detector.backbone((pixels - MEAN) / STD)
    time, space = STRIDE[family]
    grid = (T // time, height // space, width // space)
    assert detector.backbone.stride == detector.head.stride == space
    assert maps.shape == (2, *detector.backbone.channels, *grid)
    expected = folded(family, theirs(network(family), normalised_like_the_folder(pixels)), *grid)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)


def test_fewer_frames_of_vjepa2_are_as_in_transformers(folders):
    """It has no table of places: transformers takes fewer frames by itself."""
    detector = detector_of(folders, "vjepa2").eval()
    pixels = clip(4, 32, 32)
    with torch.no_grad():
        (maps,) = detector.backbone((pixels - MEAN) / STD)
    expected = folded("vjepa2", theirs(network("vjepa2"), normalised_like_the_folder(pixels)), 2, 4, 4)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)


def test_square_images_of_hiera_are_as_in_transformers(folders):
    """Transformers interpolates too, bicubically; a table of one value has one answer."""
    made = network("hiera")
    torch.nn.init.constant_(made.embeddings.position_embeddings, 0.3)
    detector = detector_of(folders, "hiera").eval()
    torch.nn.init.constant_(detector.backbone.encoder.embeddings.position_embeddings, 0.3)
    pixels = clip(2, 96, 128, 1)
    with torch.no_grad():
        (maps,) = detector.backbone((pixels - MEAN) / STD)
    expected = folded("hiera", theirs(made, normalised_like_the_folder(pixels)), 2, 3, 4)
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(6, 70, 90), (16, 16, 40), (2, 33, 20)])
def test_clips_of_any_size(folders, family, size):
    detector = detector_of(folders, family).eval()
    time, space = STRIDE[family]
    T, height, width = size
    with torch.no_grad():
        (maps,) = detector.backbone(clip(*size))
        assert detector(clip(*size), BOXES, INDEX).logits.isfinite().all()
    assert maps.shape[2:] == (T // time, -(-height // space), -(-width // space))
    assert maps.isfinite().all()


def test_a_place_is_where_it_was_when_a_clip_grows():
    """A table that is linear along each axis stays so, and its ends and its mean stay where they are."""
    native, grid = (4, 6, 5), (8, 9, 20)
    axes = torch.meshgrid(*(torch.linspace(-1 + 1 / n, 1 - 1 / n, n) for n in native), indexing="ij")
    table = torch.stack([axis.flatten() for axis in axes], dim=1)
    new = interpolate_positions(table, native, grid).unflatten(0, grid)
    wanted = torch.meshgrid(*(torch.linspace(-1 + 1 / n, 1 - 1 / n, n) for n in grid), indexing="ij")
    inside = (slice(1, -1), slice(1, -1), slice(2, -2))  # beyond the last place the table holds its value
    for axis in range(3):
        torch.testing.assert_close(new[..., axis][inside], wanted[axis][inside], atol=1e-5, rtol=0)
    torch.testing.assert_close(new.mean(dim=(0, 1, 2)), table.mean(dim=0), atol=1e-5, rtol=0)
    assert new.min() >= table.min()
    assert new.max() <= table.max()
    assert interpolate_positions(table, native, native) is table


def test_no_place_of_vjepa2_is_beyond_those_it_was_trained_with(folders):
    detector = detector_of(folders, "vjepa2").eval()
    with torch.no_grad():
        detector.backbone(clip(32, 80, 16))
    attention = detector.backbone.encoder.encoder.layer[0].attention
    along, down, across = attention.get_position_ids(torch.zeros(1))
    assert len(along) == 16 * 10 * 2
    assert (float(along.max()), float(down.max()), float(across.max())) == (3, 3, 1)  # 8 frames of 4 × 4 patches


@pytest.mark.parametrize("family", ["videomae", "vjepa2"])
def test_frames_that_tubelets_do_not_divide_are_refused(folders, family):
    detector = detector_of(folders, family)
    with pytest.raises(InputError, match=r"num_frames=5.*multiple of 2"):
        detector.backbone(clip(5, 32, 32))
    with pytest.raises(InputError, match="multiple of 2"):
        detector.backbone.check_frames(1)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_everything_or_the_head_alone(folders, family):
    inputs = clip(4, 32, 32), BOXES, INDEX
    detector = detector_of(folders, family)
    detector(*inputs).logits.sum().backward()
    assert [name for name, p in detector.named_parameters() if p.grad is None] == []
    frozen = detector_of(folders, family, freeze="all")
    assert not frozen.backbone.encoder.training
    frozen(*inputs).logits.sum().backward()
    assert {name for name, p in frozen.named_parameters() if p.grad is not None} == {
        "head.projection.weight",
        "head.projection.bias",
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["lora", "dual_path"])
def test_adapters_start_as_the_identity_and_learn(folders, family, kind):
    plain = detector_of(folders, family).eval()
    adapted = detector_of(folders, family, adapters=kind, adapter_rank=2).eval()
    adapted.head.load_state_dict(plain.head.state_dict())
    inputs = clip(4, 32, 64), BOXES, INDEX
    torch.testing.assert_close(adapted(*inputs).logits, plain(*inputs).logits, atol=1e-5, rtol=1e-5)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad and "head" not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted(*inputs).logits.sum().backward()
    assert [name for name, p in adapted.named_parameters() if p.requires_grad and p.grad is None] == []


def test_an_adapter_of_hiera_sees_images(folders):
    """Unrolled tokens are put in rows and columns: a map that is made of them is the image that they were made of."""
    backbone = detector_of(folders, "hiera").backbone.eval()
    image = torch.arange(16 * 24.0).view(1, 1, 1, 16, 24)
    from transformers.models.hiera.modeling_hiera import unroll

    tokens = unroll(image[0, 0].flatten(1)[..., None], (64, 96), (4, 4), [(2, 2)] * 3)
    backbone.grid = (1, 2, 3)
    torch.testing.assert_close(backbone.fold(tokens), image)
    torch.testing.assert_close(backbone.unfold(backbone.fold(tokens), tokens), tokens)


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("videomae", "ForPreTraining"),
        ("videomae", "ForVideoClassification"),
        ("vjepa2", "ForVideoClassification"),
        ("timesformer", "ForVideoClassification"),
        ("hiera", "ForImageClassification"),
    ],
)
def test_what_a_published_file_has_beside_its_encoder_is_left_out(tmp_path, family, kind):
    made = network(family, kind)
    made.save_pretrained(tmp_path)
    detector = create_detector(f"hf:{tmp_path}", 5, **({"temporal": "none"} if family == "hiera" else {}))
    own = getattr(made, family).state_dict()
    for name, value in detector.backbone.encoder.state_dict().items():
        assert torch.equal(value, own[name]), name
    other = create_detector(f"hf:{family}", 5, config=CONFIGS[family], checkpoint=tmp_path)
    assert torch.equal(next(other.backbone.encoder.parameters()), next(detector.backbone.encoder.parameters()))


def test_biases_of_older_files_of_videomae(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(folders / "videomae" / "model.safetensors")
    old = {
        f"videomae.{name}".replace("query.bias", "q_bias").replace("value.bias", "v_bias"): x
        for name, x in state.items()
    }
    assert any(name.endswith("attention.q_bias") for name in old)
    shutil.copytree(folders / "videomae", tmp_path / "old")
    save_file(old, tmp_path / "old" / "model.safetensors")
    found, wanted = (
        create_detector(f"hf:{each / name}").backbone for each, name in ((tmp_path, "old"), (folders, "videomae"))
    )
    assert all(torch.equal(x, wanted.state_dict()[name]) for name, x in found.state_dict().items())


def test_weights_in_several_files(folders, tmp_path):
    network("videomae").save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    found, wanted = create_detector(f"hf:{tmp_path}"), detector_of(folders, "videomae")
    assert all(torch.equal(x, wanted.backbone.state_dict()[name]) for name, x in found.backbone.state_dict().items())


def test_pickles_are_not_read(folders, tmp_path):
    shutil.copytree(folders / "videomae", tmp_path / "bin")
    (tmp_path / "bin" / "model.safetensors").unlink()
    torch.save(network("videomae").state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"model\.safetensors.*model\.checkpoint=.*pytorch_model\.bin"):
        create_detector(f"hf:{tmp_path / 'bin'}")
    named = tmp_path / "bin" / "pytorch_model.bin"
    detector = create_detector(f"hf:{tmp_path / 'bin'}", pretrained=False, checkpoint=named)
    wanted = detector_of(folders, "videomae").backbone.state_dict()
    assert all(torch.equal(x, wanted[name]) for name, x in detector.backbone.state_dict().items())


def test_a_description_needs_no_folder(folders, tmp_path):
    shutil.copytree(folders / "vjepa2", tmp_path / "moved")
    name = f"hf:{tmp_path / 'moved'}"
    description = DetectorDescription(
        name, 50, "microg50", 4, 2, 32, 0.5, "true", None, 8, None, options={"pretrained": True}
    ).self_contained()
    trained = create_detector(name)
    shutil.rmtree(tmp_path / "moved")
    again = DetectorDescription.from_dict(json.loads(json.dumps(description.as_dict())), "file").build()
    again.load_state_dict(trained.state_dict())
    inputs = torch.randint(0, 255, (1, 3, 4, 32, 32), dtype=torch.uint8), BOXES[:1], INDEX[:1]
    assert torch.equal(again.eval()(*inputs).logits, trained.eval()(*inputs).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_alone_has_random_weights_and_known_entries(family):
    detector = create_detector(f"hf:{family}", 5, config=CONFIGS[family])
    assert detector(clip(4, 32, 32), BOXES, INDEX).logits.shape == (2, 5)
    with pytest.raises(InputError, match=r"model\.options\.config.*hidden_sizes"):
        create_detector(f"hf:{family}", 5, config={"hidden_sizes": 3})


def test_pixels(folders, tmp_path):
    shutil.copytree(folders / "videomae", tmp_path / "raw")
    said = {"video_processor": {"do_normalize": False, "rescale_factor": 1 / 127.5}}
    (tmp_path / "raw" / "preprocessor_config.json").unlink()
    (tmp_path / "raw" / "processor_config.json").write_text(json.dumps(said))
    backbone = create_detector(f"hf:{tmp_path / 'raw'}").backbone
    frames = torch.rand(1, 3, 2, 8, 8)
    torch.testing.assert_close((frames - MEAN) / STD * backbone.scale + backbone.shift, frames * 2)
    (tmp_path / "raw" / "processor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5]}))
    with pytest.raises(InputError, match="three numbers"):
        create_detector(f"hf:{tmp_path / 'raw'}")
    given = create_detector("hf:timesformer", config=CONFIGS["timesformer"]).backbone
    torch.testing.assert_close(given.scale, torch.ones(3, 1, 1, 1))
    torch.testing.assert_close(given.shift, torch.zeros(3, 1, 1, 1))


def test_mistakes(folders, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"config\.json"):
        create_detector(f"hf:{tmp_path}")
    with pytest.raises(InputError, match=r"config\.json"):
        create_detector("hf:./nothing")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match=r"'bert'.*videomae"):
        create_detector(f"hf:{tmp_path}")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        create_detector(f"hf:{tmp_path}")
    with pytest.raises(InputError, match=r"model\.options\.config"):
        detector_of(folders, "videomae", config={"num_frames": 2})
    shutil.copytree(folders / "videomae", tmp_path / "other")
    content = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**content, "num_hidden_layers": 3}))
    with pytest.raises(InputError, match="missing"):
        create_detector(f"hf:{tmp_path / 'other'}")
    (tmp_path / "other" / "config.json").write_text(json.dumps({**content, "patch_size": [8, 4]}))
    with pytest.raises(InputError, match="patch_size"):
        create_detector(f"hf:{tmp_path / 'other'}", pretrained=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("microg_da.models.transformers_files.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"microg_da\[transformers\]"):
        create_detector("hf:videomae")


def test_a_repository_that_cannot_be_reached(monkeypatch):
    def fail(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InputError, match=r"model\.name=hf:lab/network.*no network.*videomae"):
        create_detector("hf:lab/network")


def test_a_repository_is_fetched_without_code_and_pickles(folders, monkeypatch):
    asked = {}

    def fetch(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(folders / "videomae")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    create_detector("hf:lab/network", revision="v1")
    assert (asked["name"], asked["revision"]) == ("lab/network", "v1")
    assert all(pattern.endswith((".json", ".safetensors")) for pattern in asked["patterns"])
    create_detector("hf:lab/network", **without_fetching("hf:lab/network", {}))
    assert all(pattern.endswith(".json") for pattern in asked["patterns"])
