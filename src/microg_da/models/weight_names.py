"""Rules that convert the weight names of other code bases to names of this package.

The names are ``backbone.…`` with the names of pytorchvideo's or torchvision's modules, and ``head.projection.…``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from microg_da.models.backbone import Backbone

Rule = tuple[str, str]
"""A regular expression and its replacement. The rules of a table are applied in order."""

_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|detector|model)\.)+")
"""Prefixes of DDP, torch.compile, the Lightning module and pytorchvideo's detection network."""

_CAFFE2: tuple[Rule, ...] = (
    (r"^t_pool1_subsample_", "s1_fuse."),
    (r"^t_res(\d)_\d+_branch2c_bn_subsample_", r"s\1_fuse."),
    (r"^(t_)?(?:res_)?conv1_(bn_|xy_)?", r"s1.\1stem.\2"),
    (r"^(t_)?res(\d)_(\d+)_branch(\d)([a-c]?)_", r"s\2.\1res\3.branch\4.\5_"),
    (r"^nonlocal_conv(\d)_(\d+)_", r"s\1.nonlocal\2."),
    (r"^(s\d)\.t_", r"\1.pathway1_"),
    (r"^(s\d)\.(stem|res|nonlocal)", r"\1.pathway0_\2"),
    (r"\.(theta|phi|g|out)_", r".conv_\1."),
    (r"^(s\d_fuse)\.(?!bn_)", r"\1.conv_f2s."),
    (r"stem\.xy_", "stem.conv_xy."),
    (r"stem\.(?!bn_|conv)", "stem.conv."),
    (r"branch1\._", "branch1_"),
    (r"branch2\.b_bn_fc(\d)_", r"branch2.se.fc\1."),
    (r"^pred_", "head.projection."),
    (r"^(conv|lin)_5", r"head.\1_5"),
    (r"bn_s$", "bn.weight"),
    (r"bn_b$", "bn.bias"),
    (r"bn_rm$", "bn.running_mean"),
    (r"bn_riv$", "bn.running_var"),
    (r"[._]w$", ".weight"),
    (r"[._]b$", ".bias"),
)
"""From the blobs of PySlowFast's Caffe2 zoo to the names of its PyTorch checkpoints."""

_RESIDUAL: tuple[Rule, ...] = (
    (r"pathway(\d)_stem\.", r"pathway\1."),
    (r"pathway(\d)_res(\d+)\.", r"pathway\1.res_blocks.\2."),
    (r"pathway(\d)_nonlocal(\d+)\.", r"pathway\1.nonlocal_blocks.\2."),
    (r"\.branch1\.", ".branch1_conv."),
    (r"\.branch1_bn\.", ".branch1_norm."),
    (r"\.branch2\.([abc])\.", r".branch2.conv_\1."),
    (r"\.branch2\.([abc])_bn\.", r".branch2.norm_\1."),
    (r"\.conv_f2s\.", ".conv_fast_to_slow."),
    (r"\.bn\.", ".norm."),
)
"""From PySlowFast's residual networks to pytorchvideo's."""

_X3D: tuple[Rule, ...] = (
    (r"pathway0_stem\.conv\.", "pathway0_stem.conv.conv_xy."),
    (r"pathway0_stem\.conv_xy\.", "pathway0_stem.conv.conv_t."),
    (r"\.b_bn\.", ".b_bn.0."),
    (r"\.se\.fc1\.", ".norm_b.1.block.0."),
    (r"\.se\.fc2\.", ".norm_b.1.block.2."),
)
"""Additional rules for X3D. Pytorchvideo calls the spatial convolution of the stem ``conv_t``."""

_MVIT: tuple[Rule, ...] = (
    (r"^patch_embed\.(proj|patch_model)\.", "conv_proj."),
    (r"^cls_positional_encoding\.", ""),
    (r"^cls_token$", "pos_encoding.class_token"),
    (r"^pos_embed_(spatial|temporal|class)$", r"pos_encoding.\1_pos"),
    (r"^norm_embed\.", "norm."),
    (r"^blocks\.(\d+)\.proj\.", r"blocks.\1.project."),
    (r"\.attn\.proj\.", ".attn.project.0."),
    (r"\.attn\._attention_pool_([qkv])\.pool\.", r".attn.pool_\1."),
    (r"\.attn\._attention_pool_([qkv])\.norm\.", r".attn.norm_\1."),
    (r"\.attn\.pool_([qkv])\.weight$", r".attn.pool_\1.pool.weight"),
    (r"\.attn\.norm_([qkv])\.", r".attn.pool_\1.norm_act.0."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
)
"""From PySlowFast's and pytorchvideo's MViT to torchvision's."""

_HEADS: tuple[Rule, ...] = (
    (r"^(?:detection_head|head)\.(?:proj|1)\.", "head.projection."),
    (r"^fc\.", "head.projection."),
)
"""Final linear layers of pytorchvideo's detection networks, torchvision and pytorchvideo's MViT."""


_CAFFE2_NAME = re.compile(r"(t_)?((res_)?conv1_|res\d_\d+_branch\d)")
_CAFFE2_SOLVER = re.compile(r".*_momentum$|lr$|model_iter$")


def convert(state: dict[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """Convert the tensors of a file to the names (and, for MViT, the form) of a detector with this backbone.

    A name without a rule keeps its form after ``backbone.``, and is reported as unexpected.
    """
    state = _detector_part(state)
    if any(name.startswith("backbone.") for name in state):
        return state
    if any(_CAFFE2_NAME.match(name) for name in state):
        state = {_apply(_CAFFE2, name): x for name, x in state.items() if not _CAFFE2_SOLVER.match(name)}
    rename = _RENAMERS[backbone.published_names](backbone)
    heads = () if backbone.published_names in ("timm", "transformers") else _HEADS
    state = {rename(_apply(heads, name)): x for name, x in state.items()}
    for complete in _COMPLETIONS.get(backbone.published_names, ()):
        state = complete(state)
    return {name if name.startswith("head.") else f"backbone.{name}": x for name, x in state.items()}


def _detector_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the detector of a Lightning checkpoint, or all entries of other files, without prefixes of wrappers."""
    if any(name.startswith("detector.") for name in state):
        state = {name: x for name, x in state.items() if name.startswith("detector.")}
    return {_WRAPPERS.sub("", name): x for name, x in state.items()}


def _residual_renamer(backbone: Backbone) -> Callable[[str], str]:
    # Stage k of the paper is the k-th block that has weights; pooling between stages counts as a block.
    blocks = [index for index, block in enumerate(backbone.blocks) if any(True for _ in block.parameters())]  # type: ignore[arg-type]
    rules = (*(_X3D if backbone.published_names == "x3d" else ()), *_RESIDUAL)
    pathway = r"multipathway_blocks.\1." if len(backbone.channels) > 1 else ""

    def stage(match: re.Match[str]) -> str:
        number = int(match[1]) - 1
        if number >= len(blocks):
            return match[0]
        return f"blocks.{blocks[number]}." + ("multipathway_fusion." if match[2] else "")

    def rename(name: str) -> str:
        name = re.sub(r"^s(\d)(_fuse)?\.", stage, _apply(rules, name))
        # In pytorchvideo's classifiers the head is the block after the last block of the backbone.
        name = re.sub(rf"^blocks\.{blocks[-1] + 1}\.(pool|proj)\.|^blocks\.{blocks[-1] + 2}\.(proj)\.", _head, name)
        return re.sub(r"pathway(\d)\.", pathway, name)

    return rename


def _timm_renamer(backbone: Backbone) -> Callable[[str], str]:
    # The last layers of a classifier are the head of the file; their names depend on the timm encoder.
    return lambda name: f"head.{name}" if name in backbone.pruned else f"encoder.{name}"  # type: ignore[operator]


def _head(match: re.Match[str]) -> str:
    return "head.pool." if match[1] == "pool" else "head.projection."


def _merge_qkv(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join the separate query, key and value projections of older MViT files into one."""
    merged = dict(state)
    for name in state:
        if match := re.fullmatch(r"(.*\.attn\.)q\.(weight|bias)", name):
            parts = [f"{match[1]}{part}.{match[2]}" for part in "qkv"]
            if all(part in state for part in parts):
                merged[f"{match[1]}qkv.{match[2]}"] = torch.cat([merged.pop(part) for part in parts])
    return merged


def _flat_positions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the leading axes of length 1 of PySlowFast's and pytorchvideo's embeddings."""

    def flat(name: str, x: Tensor) -> Tensor:
        if not name.startswith("pos_encoding."):
            return x
        return x.flatten() if "class" in name else x.reshape(-1, x.shape[-1])

    return {name: flat(name, x) for name, x in state.items()}


def _add_shortcut_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add an identity normalisation on the first shortcut, which pytorchvideo's X3D lacks."""
    shortcut = "blocks.1.res_blocks.0.branch1_{}"
    convolution, norm = state.get(shortcut.format("conv.weight")), shortcut.format("norm.")
    if convolution is None or f"{norm}weight" in state:
        return state
    ones = torch.ones(len(convolution))
    identity = {"weight": ones, "bias": 0 * ones, "running_mean": 0 * ones, "running_var": ones - 1e-5}
    return state | {norm + name: x for name, x in identity.items()}


def _apply(rules: Iterable[Rule], name: str) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


_RENAMERS: dict[str, Callable[[Backbone], Callable[[str], str]]] = {
    "residual": _residual_renamer,
    "x3d": _residual_renamer,
    "mvit": lambda _: lambda name: _apply(_MVIT, name),
    "timm": _timm_renamer,
    "transformers": lambda backbone: backbone.published_name,  # type: ignore[dict-item, return-value]
    "torchvision": lambda _: lambda name: re.sub(r"^(?:classifier\.1|head)\.(?!projection)", "head.projection.", name),
    "none": lambda _: lambda name: name,
}
_COMPLETIONS: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], ...]] = {
    "mvit": (_merge_qkv, _flat_positions),
    "x3d": (_add_shortcut_norm,),
}
