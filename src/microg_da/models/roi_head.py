"""The RoI head: one feature vector and one row of logits per person, from feature maps and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from microg_da.models.person_head import PersonHead, time_slices


class RoIHead(PersonHead):
    """Temporal average pool → RoIAlign → max pool → dropout → linear, for each pathway and concatenated.

    Args:
        channels: channels of each feature map.
        num_classes: outputs of the linear layer.
        stride: input pixels per cell of the feature maps.
        dropout: rate before the linear layer.
        resolution: RoIAlign's output is ``resolution × resolution``.

    Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019 (the AVA head).
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        stride: float,
        dropout: float = 0.5,
        resolution: int = 7,
    ) -> None:
        super().__init__(sum(channels), num_classes, stride, dropout)
        self.resolution = resolution

    def features(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor) -> Tensor:
        """Return features from RoIAlign in the box; see the base class."""
        return torch.cat([self._pool(pathway, boxes, clip_index) for pathway in maps], dim=1)

    def local_grids(self, maps: Sequence[Tensor], boxes: Tensor, clip_index: Tensor, slices: int) -> Tensor:
        """Return grids with ``R = resolution``; see the base class.

        If S divides every T, the mean over slices equals that of the whole clip.
        """
        return torch.cat([self._local_grid(pathway, boxes, clip_index, slices) for pathway in maps], dim=2)

    def _local_grid(self, pathway: Tensor, boxes: Tensor, clip_index: Tensor, slices: int) -> Tensor:
        parts = [part.mean(dim=2) for part in time_slices(pathway, slices)]
        # Slices are concatenated as channels, so that sampling positions are computed once for all of them.
        grid = self._align(torch.cat(parts, dim=1), boxes, clip_index)
        return torch.unflatten(grid, 1, (slices, -1))

    def _pool(self, pathway: Tensor, boxes: Tensor, clip_index: Tensor) -> Tensor:
        grid = self._align(pathway.mean(dim=2), boxes, clip_index)
        return F.max_pool2d(grid, self.resolution).flatten(1)

    def _align(self, planes: Tensor, boxes: Tensor, clip_index: Tensor) -> Tensor:
        """Apply RoIAlign to ``(B, C, H, W)``; return ``(K, C, resolution, resolution)``."""
        if planes.dtype in (torch.float16, torch.bfloat16):
            # Box corners need more than 8 bits of mantissa.
            planes = planes.float()
        boxes = boxes.to(planes.dtype)
        by_matrix = _learns_on_cpu(planes) and planes.shape[2:].numel() <= planes.shape[1]
        return (self._align_by_matrix if by_matrix else self._roi_align)(planes, boxes, clip_index)

    def _align_by_matrix(self, planes: Tensor, boxes: Tensor, clip_index: Tensor) -> Tensor:
        """Compute RoIAlign as one matrix product per box.

        RoIAlign is linear in the map, and its matrix consists of its results for single cells. On the CPU, the backward
        pass of torchvision runs in one thread, that of a matrix product in several threads.
        """
        cells = torch.eye(planes.shape[2:].numel(), dtype=planes.dtype).view(1, -1, *planes.shape[2:])
        weights = self._roi_align(cells, boxes, torch.zeros_like(clip_index))
        seen = planes.flatten(2).index_select(0, clip_index)
        return torch.unflatten(torch.bmm(seen, weights.flatten(2)), 2, weights.shape[2:])

    def _roi_align(self, planes: Tensor, boxes: Tensor, clip_index: Tensor) -> Tensor:
        regions = torch.cat([clip_index[:, None].to(boxes.dtype), boxes], dim=1)
        grid: Tensor = roi_align(
            planes, regions, self.resolution, spatial_scale=1 / self.stride, sampling_ratio=0, aligned=True
        )
        return grid


def _learns_on_cpu(planes: Tensor) -> bool:
    """Return whether a backward pass on the CPU follows, without autocast, whose precision is too low."""
    return planes.requires_grad and planes.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
