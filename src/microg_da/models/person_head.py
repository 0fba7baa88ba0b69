"""Base class of heads: one feature vector and one row of logits for each person."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class PersonHead(nn.Module):
    """Features of each person from feature maps, then dropout and a linear layer.

    Subclasses make the features.

    Args:
        feature_dim: D, the length of a person's features.
        num_classes: outputs of the linear layer.
        stride: input pixels per cell of the feature maps.
        dropout: rate before the linear layer.
    """

    def __init__(self, feature_dim: int, num_classes: int, stride: float, dropout: float = 0.5) -> None:
        super().__init__()
        self.stride = stride
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(feature_dim, num_classes)
        nn.init.normal_(self.projection.weight, std=0.01)
        nn.init.zeros_(self.projection.bias)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor) -> tuple[Tensor, Tensor]:
        """Score every box.

        Args:
            maps: one ``(B, C, T, H, W)`` per pathway.
            boxes: ``(K, 4)`` pixels ``x1 y1 x2 y2`` in the frames.
            clip_index: ``(K,)`` the clip that each box belongs to.

        Returns:
            Logits ``(K, num_classes)`` and features ``(K, D)``, the latter before dropout.
        """
        features = self.features(maps, boxes, clip_index)
        return self.projection(self.dropout(features)), features

    def features(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor) -> Tensor:
        """Features ``(K, D)``; arguments as in :meth:`forward`."""
        raise NotImplementedError

    def local_grids(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor, slices: int) -> Tensor:
        """Features of each box in each temporal slice; arguments as in :meth:`forward`.

        Args:
            maps: one ``(B, C, T, H, W)`` per pathway.
            boxes: ``(K, 4)``.
            clip_index: ``(K,)``.
            slices: S, the number of temporal parts of equal length. They overlap if S does not divide
                T, and repeat if T is smaller than S.

        Returns:
            Grids ``(K, S, D, R, R)``, to be averaged over slices and scored by :meth:`classify`.
        """
        raise NotImplementedError

    def classify(self, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(…, num_classes)`` and features ``(…, D)`` of grids ``(…, D, R, R)``."""
        features = grids.amax(dim=(-2, -1))
        return self.projection(self.dropout(features)), features


def time_slices(maps: Tensor, slices: int) -> list[Tensor]:
    """The parts of ``(B, C, T, H, W)`` along time, as :meth:`PersonHead.local_grids` cuts them."""
    T = maps.shape[2]
    starts = [index * T // slices for index in range(slices)]
    ends = [-(-(index + 1) * T // slices) for index in range(slices)]
    return [maps[:, :, start:end] for start, end in zip(starts, ends, strict=True)]
