"""The attentive head: who it looks at, what it ignores, and that adapters, rolls and files work with it."""

from __future__ import annotations

import pytest
import torch

from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.models.attentive_head import AttentiveArguments, AttentiveHead, box_coverage
from microg_da.models.checkpoints import compare
from microg_da.models.description import DetectorDescription

KINDS = ["bias", "mask", "query"]
MAPS = (12, 3, 6, 8)  # channels, frames, rows and columns of cells of 8 pixels
BOXES = torch.tensor([[3.0, 5.0, 30.0, 44.0], [20.0, 0.0, 64.0, 48.0], [0.0, 0.0, 17.0, 9.0]])
INDEX = torch.tensor([0, 1, 1])


def maps(B=2, seed=0):
    return torch.randn(B, *MAPS, generator=torch.Generator().manual_seed(seed))


def make(box="bias", **arguments):
    torch.manual_seed(1)
    head = AttentiveHead([12], 4, 8, 0.0, AttentiveArguments(box=box, heads=arguments.pop("heads", 2), **arguments))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return head.eval()


def expected_attention(head, pathway, box):
    """The same for one person, head by head and token by token, from the formula of attention."""
    pool = head.poolers[0]
    C, T, H, W = pathway.shape
    tokens = pool.norm(torch.stack([pathway[:, t, y, x] for t in range(T) for y in range(H) for x in range(W)]))
    x1, y1, x2, y2 = (box / 8).tolist()
    covered = torch.tensor([
        max(0.0, min(x2, x + 1) - max(x1, x)) * max(0.0, min(y2, y + 1) - max(y1, y))
        for _ in range(T) for y in range(H) for x in range(W)
    ])  # fmt: skip
    found, width = [], C // pool.heads
    for h in range(pool.heads):
        part = slice(h * width, (h + 1) * width)
        scores = pool.key(tokens)[:, part] @ pool.query(pool.queries)[0, part] / width**0.5
        scores = (
            scores - pool.strength[h] * (1 - covered) if pool.box == "bias" else scores.masked_fill(covered == 0, -1e9)
        )
        found.append(scores.softmax(0) @ pool.value(tokens)[:, part])
    query = pool.queries[0] + pool.output(torch.cat(found))
    return query + pool.mlp(pool.mlp_norm(query))


@pytest.mark.parametrize("box", ["bias", "mask"])
def test_one_person_by_the_formula(box):
    head, pathway = make(box), maps()
    features = head.features([pathway], BOXES, INDEX)
    for row, (each, clip) in zip(features, zip(BOXES, INDEX, strict=True), strict=True):
        torch.testing.assert_close(row, expected_attention(head, pathway[clip], each), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("box", KINDS)
def test_people_are_scored_each_for_itself(box):
    head, pathway = make(box, queries=2), maps()
    logits, features = head([pathway], BOXES, INDEX)
    assert features.shape == (3, 24)
    assert logits.shape == (3, 4)
    order = torch.tensor([2, 0, 1])
    turned, _ = head([pathway], BOXES[order], INDEX[order])
    torch.testing.assert_close(turned, logits[order])
    alone, _ = head([pathway[:1]], BOXES[:1], INDEX[:1])
    torch.testing.assert_close(alone, logits[:1])
    other = pathway.clone()
    other[0] = maps(seed=5)[0]
    moved, _ = head([other], BOXES, INDEX)
    torch.testing.assert_close(moved[1:], logits[1:])
    assert not torch.allclose(moved[0], logits[0], atol=1e-3)
    nobody, none = head([pathway], BOXES[:0], INDEX[:0])
    assert nobody.shape == (0, 4)
    assert none.shape == (0, 24)


def test_a_mask_ignores_what_is_outside_the_box_and_a_bias_does_not():
    pathway = maps()
    inside = box_coverage(BOXES[:1] / 8, 6, 8).view(6, 8) > 0
    assert 0 < inside.sum() < 48
    outside = torch.where(inside, pathway[:1], maps(seed=7)[:1])
    within = torch.where(inside, maps(seed=7)[:1], pathway[:1])
    for box in KINDS:
        head = make(box)
        features, without, other = (head.features([x], BOXES[:1], INDEX[:1]) for x in (pathway[:1], outside, within))
        assert torch.allclose(features, without, atol=1e-5) is (box == "mask")
        assert not torch.allclose(features, other, atol=1e-3)


@pytest.mark.parametrize("box", KINDS)
def test_two_people_of_a_clip_differ(box):
    features = make(box).features([maps()], BOXES, torch.tensor([0, 1, 1]))
    assert not torch.allclose(features[1], features[2], atol=1e-3)


def test_a_new_bias_separates_people_and_sees_context():
    """From the first step on: a head of strength 0 sees all alike, one of strength 6 hardly sees what is outside."""
    torch.manual_seed(0)
    pool = AttentiveHead([128], 4, 8).poolers[0]
    assert pool.strength.tolist() == [0, 6]
    shares = pool._allowed(box_coverage(BOXES / 8, 6, 8))[:, :, 0].softmax(dim=-1)
    covered = box_coverage(BOXES / 8, 6, 8) > 0
    in_box = (shares * covered[:, None]).sum(dim=-1)
    torch.testing.assert_close(in_box[:, 0], covered.float().mean(dim=1))
    assert in_box[:, 1].min() > 0.75


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ([0, 0, 8, 6], 48),  # everything
        ([2.0, 1.0, 4.0, 2.0], 2),
        ([2.5, 1.0, 3.5, 2.0], 1),  # half of two cells
        ([3.5, 2.5, 3.5, 2.5], 1),  # no area
        ([-9, -9, -5, -5], 1),  # outside
        ([90, 3, 99, 5], 2),
        ([-4, 0, 1, 1], 1),
    ],
)
def test_coverage_is_the_area_in_cells(box, cells):
    covered = box_coverage(torch.tensor([box], dtype=torch.float), 6, 8)
    assert covered.sum() == pytest.approx(cells)
    assert covered.min() >= 0
    assert covered.max() <= 1


@pytest.mark.parametrize("box", KINDS)
def test_boxes_without_area_have_finite_scores_and_gradients(box):
    head, pathway = make(box), maps().requires_grad_()
    boxes = torch.tensor([[9.0, 9.0, 9.0, 9.0], [-50.0, -50.0, -20.0, -20.0], [0.0, 0.0, 64.0, 48.0]])
    logits, _ = head([pathway], boxes, INDEX)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert pathway.grad.isfinite().all()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("box", KINDS)
def test_gradients_agree_with_differences(box):
    head = make(box).double()
    pathway = maps().double()[:, :, :1, :2, :2].requires_grad_()
    boxes = torch.tensor([[1.0, 2.0, 13.0, 9.0]], dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: head([x], boxes, INDEX[:1])[1], (pathway,), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("box", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(box, dtype):
    head, pathway = make(box), maps()
    logits, features = head([pathway], BOXES, INDEX)
    with torch.autocast("cpu", dtype):
        half, half_features = head([pathway.to(dtype)], BOXES, INDEX)
    assert (half.float() - logits).abs().max() < 0.05 * logits.abs().max()
    assert half_features.shape == features.shape


def test_more_pathways_and_a_width():
    head = AttentiveHead([12, 6], 4, 8, arguments=AttentiveArguments(width=16, heads=4, queries=3)).eval()
    fast = torch.randn(2, 6, 12, 6, 8)
    logits, features = head([maps(), fast], BOXES, INDEX)
    assert features.shape == (3, 3 * 2 * 16)
    assert not torch.equal(head([maps(), fast + 1], BOXES, INDEX)[0], logits)


def test_slices_look_at_their_part_of_the_clip():
    head, pathway = make(), maps()
    grids = head.local_grids([pathway], BOXES, INDEX, 3)
    assert grids.shape == (3, 3, 12, 1, 1)
    logits, features = head.classify(grids)
    assert logits.shape == (3, 3, 4)
    for t in range(3):
        torch.testing.assert_close(features[:, t], head.features([pathway[:, :, t : t + 1]], BOXES, INDEX))
    torch.testing.assert_close(
        head.classify(head.local_grids([pathway], BOXES, INDEX, 1))[0][:, 0], head([pathway], BOXES, INDEX)[0]
    )


FRAMES = torch.randint(0, 255, (2, 3, 4, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PEOPLE = torch.tensor([[4.0, 4.0, 30.0, 60.0], [10.0, 0.0, 60.0, 64.0]]), torch.tensor([0, 1])


@pytest.mark.parametrize("name", ["r2plus1d_micro", "slowfast_r50_4x16", "timm:test_vit"])
def test_any_backbone(name):
    torch.manual_seed(0)
    detector = create_detector(name, 5, head="attentive", head_args={"width": 64}).eval()
    logits, features = detector(FRAMES, *PEOPLE)
    assert logits.shape == (2, 5)
    assert features.shape == (2, detector.feature_dim) == (2, 64 * len(detector.backbone.channels))


@pytest.mark.parametrize("kind", ["lora", "dual_path"])
def test_adapters(kind):
    torch.manual_seed(0)
    detector = create_detector("timm:test_vit", 5, head="attentive", adapters=kind, temporal="none").eval()
    plain = create_detector("timm:test_vit", 5, head="attentive", temporal="none").eval()
    plain.load_state_dict({name: x for name, x in detector.state_dict().items() if name in plain.state_dict()})
    torch.testing.assert_close(detector(FRAMES, *PEOPLE).logits, plain(FRAMES, *PEOPLE).logits)
    detector(FRAMES, *PEOPLE).logits.square().sum().backward()
    trained = [name for name, p in detector.named_parameters() if p.requires_grad]
    assert any("low_rank" in name or "adapters" in name for name in trained)
    assert all(("low_rank" in name or "adapters" in name) for name in trained if name.startswith("backbone."))
    assert [name for name, p in detector.named_parameters() if p.requires_grad and p.grad is None] == []


def test_rolls_are_averaged():
    torch.manual_seed(0)
    detector = create_detector("r2plus1d_micro", 5, head="attentive", roll_pooling="c4").eval()
    boxes, index = PEOPLE
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    turned = detector(FRAMES.rot90(-1, (-2, -1)), torch.stack([64 - y2, x1, 64 - y1, x2], dim=1), index)
    torch.testing.assert_close(turned.logits, detector(FRAMES, boxes, index).logits, atol=1e-4, rtol=1e-4)


def test_files_say_which_head_they_have(tmp_path):
    torch.manual_seed(0)
    arguments = {"width": 32, "heads": 2, "box": "query"}
    detector = create_detector("r2plus1d_micro", 50, head="attentive", head_args=arguments).eval()
    said = DetectorDescription(
        "r2plus1d_micro", 50, "microg50", 4, 2, 64, 0.5, "true", None, 8, None, head="attentive", head_args=arguments
    )
    built = DetectorDescription.from_dict(said.as_dict(), "file").build()
    built.load_state_dict(detector.state_dict())
    assert torch.equal(built.eval()(FRAMES, *PEOPLE).logits, detector(FRAMES, *PEOPLE).logits)
    older = {key: value for key, value in said.as_dict().items() if key not in ("head", "head_args")}
    assert DetectorDescription.from_dict(older, "file").head == "roi"


@pytest.mark.parametrize(("file", "network"), [("roi", "attentive"), ("attentive", "roi")])
def test_the_head_of_a_file_of_the_other_kind_is_replaced(tmp_path, file, network):
    torch.save(create_detector("r2plus1d_micro", 50, head=file).state_dict(), tmp_path / "file.pth")
    detector = create_detector("r2plus1d_micro", 50, head=network)
    fitting, report = compare(detector, tmp_path / "file.pth")
    assert report.fits
    assert report.replaced
    assert all(name.startswith("backbone.") for name in fitting)
    assert report.head_stride is None


@pytest.mark.parametrize(
    ("head", "arguments", "said"),
    [
        ("attentiv", {}, "attentive"),
        ("attentive", {"boxes": "bias"}, r"model\.head_args.*'boxes'"),
        ("attentive", {"box": "biased"}, r"model\.head_args\.box.*'bias'"),
        ("attentive", {"queries": 0}, r"model\.head_args\.queries"),
        ("attentive", {"queries": "many"}, r"model\.head_args\.queries"),
        ("attentive", {"heads": 5}, r"model\.head_args\.heads=5"),
        ("attentive", {"mlp_ratio": float("nan")}, r"model\.head_args\.mlp_ratio"),
        ("roi", {"queries": 1}, r"model\.head_args"),
    ],
)
def test_mistakes(head, arguments, said):
    with pytest.raises(InputError, match=said):
        create_detector("r2plus1d_micro", head=head, head_args=arguments)
