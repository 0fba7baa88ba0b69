"""Base class of heads: one feature vector and one row of logits for each person."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class PersonHead(nn.Module):
    """Base class of heads: features of each person from feature maps, then dropout and a linear layer.

    Subclasses define the features.

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
        """Predict the people in all boxes.

        Args:
            maps: one ``(B, C, T, H, W)`` per pathway.
            boxes: ``(K, 4)`` pixels ``x1 y1 x2 y2`` in the frames.
            clip_index: ``(K,)`` the clip of each box.

        Returns:
            Logits ``(K, num_classes)`` and features ``(K, D)`` before dropout.
        """
        features = self.features(maps, boxes, clip_index)
        return self.projection(self.dropout(features)), features

    def features(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor) -> Tensor:
        """Return features ``(K, D)``; arguments as in :meth:`forward`."""
        raise NotImplementedError

    def local_grids(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor, slices: int) -> Tensor:
        """Return features of each box in each temporal slice.

        Args:
            maps: one ``(B, C, T, H, W)`` per pathway.
            boxes: ``(K, 4)``.
            clip_index: ``(K,)``.
            slices: S, the number of temporal parts of equal length. They overlap if S does not divide
                T, and repeat if T is smaller than S.

        Returns:
            Grids ``(K, S, D, R, R)``, which may be averaged over slices and scored by :meth:`classify`.
        """
        raise NotImplementedError

    def classify(self, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``(…, num_classes)`` and features ``(…, D)`` of grids ``(…, D, R, R)``."""
        features = grids.amax(dim=(-2, -1))
        return self.projection(self.dropout(features)), features


def time_slices(maps: Tensor, slices: int) -> list[Tensor]:
    """Return the parts of ``(B, C, T, H, W)`` along time for :meth:`PersonHead.local_grids`."""
    T = maps.shape[2]
    starts = [index * T // slices for index in range(slices)]
    ends = [-(-(index + 1) * T // slices) for index in range(slices)]
    return [maps[:, :, start:end] for start, end in zip(starts, ends, strict=True)]
