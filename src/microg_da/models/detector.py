"""The action detector: a backbone, and a head that computes features and logits of each person."""

from __future__ import annotations

from torch import Tensor, nn

from microg_da.errors import InputError
from microg_da.models.backbone import Backbone, normalise
from microg_da.models.inputs import check_inputs
from microg_da.models.person_head import PersonHead
from microg_da.models.roi_head import RoIHead
from microg_da.transforms.stored_frames import is_stored
from microg_da.types import Prediction

PUBLISHED_STRIDE = 16
"""The RoI stride that MicroG-Bench assumed for all networks."""

AUTO_STRIDE = "auto"
"""The stride with which the head of the loaded file was trained; without a loaded head, that of the backbone."""


class ActionDetector(nn.Module):
    """Predicts the actions of people with given boxes.

    :func:`microg_da.create_detector` creates a detector with any named backbone.

    Example:
        >>> import torch
        >>> from microg_da import ActionDetector, Backbone
        >>> class Patches(Backbone):
        ...     channels, stride, stages = (16,), 8, ("convolution",)
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.convolution = torch.nn.Conv3d(3, 16, (1, 8, 8), (1, 8, 8))
        ...     def forward(self, frames):
        ...         return (self.convolution(frames),)
        >>> detector = ActionDetector(Patches(), num_classes=4).eval()
        >>> frames, boxes = torch.zeros(1, 3, 2, 64, 64, dtype=torch.uint8), torch.tensor([[8.0, 8, 40, 56]])
        >>> prediction = detector(frames, boxes, clip_index=torch.tensor([0]))
        >>> prediction.logits.shape, prediction.features.shape
        (torch.Size([1, 4]), torch.Size([1, 16]))

    Args:
        backbone: computes feature maps of the frames.
        num_classes: number of action classes, with one logit each.
        dropout: rate before the linear layer.
        roi_stride: ``"true"`` for the stride of the backbone, ``"published"`` for the stride 16 of the benchmark, or a
            number. ``"auto"`` equals ``"true"`` without loaded weights.
        head: computes features and logits from the maps; None for RoIAlign and a linear layer with ``dropout`` and
            ``roi_stride``.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        dropout: float = 0.5,
        roi_stride: str | bool | float = AUTO_STRIDE,
        head: PersonHead | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        stride = resolve_stride(roi_stride, backbone.stride)
        self.head = head or RoIHead(backbone.channels, num_classes, stride, dropout)

    @property
    def num_classes(self) -> int:
        """Number of logits per person."""
        return self.head.projection.out_features

    @property
    def feature_dim(self) -> int:
        """Length of a person's feature vector."""
        return self.head.projection.in_features

    @property
    def is_frozen(self) -> bool:
        """Whether all weights of the backbone are frozen, so that the maps of a clip do not change."""
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    def train(self, mode: bool = True) -> ActionDetector:
        """Set the training mode, but keep frozen parts of the backbone in evaluation mode.

        Frozen parts keep their statistics and have no dropout.
        """
        super().train(mode)
        _keep_frozen(self.backbone)
        return self

    def forward(self, frames: Tensor, boxes: Tensor, clip_index: Tensor) -> Prediction:
        """Predict the people in all boxes.

        Args:
            frames: ``(B, 3, T, H, W)``; uint8 RGB, which is normalised here, or normalised floating point. For
                :class:`~microg_da.transforms.stored_frames.StoredFrames` the stored feature maps are read.
            boxes: ``(K, 4)`` pixels ``x1 y1 x2 y2``; ``K`` may be 0.
            clip_index: ``(K,)`` int64, the clip of each box.

        Raises:
            InputError: for wrong shapes or types. On the CPU also for a ``clip_index`` outside the batch, boxes in [0,
                1] and floating-point frames in 0…255. On CUDA these errors end the process with the same message.
        """
        return Prediction(*self.head(self._maps(frames, boxes, clip_index), boxes, clip_index))

    def local_predictions(
        self, frames: Tensor, boxes: Tensor, clip_index: Tensor, slices: int
    ) -> tuple[Prediction, Tensor]:
        """Predict the people in each of ``S`` temporal slices of the feature maps, in one pass of the backbone.

        Args:
            frames: as in :meth:`forward`.
            boxes: as in :meth:`forward`.
            clip_index: as in :meth:`forward`.
            slices: S, the number of slices.

        Returns:
            Logits ``(K, S, C)`` and features ``(K, S, D)``, and the grids ``(K, S, D, R, R)`` from which they were
            pooled. ``head.classify`` scores any weighted mean of these grids over slices.
        """
        grids = self.head.local_grids(self._maps(frames, boxes, clip_index), boxes, clip_index, slices)
        return Prediction(*self.head.classify(grids)), grids

    def _maps(self, frames: Tensor, boxes: Tensor, clip_index: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps of frames: stored maps, else those of the backbone."""
        if is_stored(frames):
            return frames.maps()
        check_inputs(frames, boxes, clip_index)
        maps: tuple[Tensor, ...] = self.backbone(normalise(frames, self.backbone.memory_format))
        return maps


def _keep_frozen(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for child in module.children():
        _keep_frozen(child)


def resolve_stride(roi_stride: object, true_stride: float) -> float:
    """Return the number of input pixels per cell of the feature maps."""
    # YAML reads a bare `true` as a boolean.
    if roi_stride is True or roi_stride in ("true", AUTO_STRIDE):
        return true_stride
    if roi_stride == "published":
        return PUBLISHED_STRIDE
    if isinstance(roi_stride, (int, float)) and roi_stride > 0 and not isinstance(roi_stride, bool):
        return float(roi_stride)
    raise InputError(f"model.roi_stride: expected auto, true, published or a positive number, got {roi_stride!r}")
