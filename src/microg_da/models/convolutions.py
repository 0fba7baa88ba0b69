"""Equivalent convolutions that are faster on a CPU.

Layers keep their parameters, names and results; only the order of the arithmetic differs. On other devices, and for
unsupported shapes, the layers compute like ``nn.Conv3d``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Triple = tuple[int, int, int]
CHANNELS_LAST = torch.channels_last_3d


class FrameConv3d(nn.Conv3d):
    """A convolution of single frames, computed as a 2-D convolution of all frames of the batch.

    In channels-last memory this reshapes the clip without a copy. oneDNN has faster kernels for the backward pass in
    two dimensions, particularly with a stride. With a 1×1×1 kernel the layer is a matrix product.
    """

    devices = frozenset({"cpu"})
    """Returns whether the fast computation is used for an input."""

    @staticmethod
    def covers(layer: nn.Conv3d) -> bool:
        """Return whether a layer has kernel, stride and padding only in space."""
        in_time = (layer.kernel_size[0], layer.stride[0], layer.padding[0])
        return in_time == (1, 1, 0) and layer.groups == 1 and layer.padding_mode == "zeros"

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if traced() or input.device.type not in self.devices or not input.is_contiguous(memory_format=CHANNELS_LAST):
            output: Tensor = super()._conv_forward(input, weight, bias)
            return output
        images = input.movedim(1, -1)
        if self.kernel_size[1:] == self.stride[1:] == (1, 1) and self.padding[1:] == (0, 0):
            return F.linear(images, weight.flatten(1), bias).movedim(-1, 1)
        frames = images.flatten(0, 1).movedim(-1, 1)
        output = F.conv2d(frames, weight[:, :, 0], bias, self.stride[1:], self.padding[1:], self.dilation[1:])
        return torch.unflatten(output.movedim(1, -1), 0, images.shape[:2]).movedim(-1, 1)


class TemporalConv3d(nn.Conv3d):
    """A convolution along time, as one matrix product for each position of the kernel.

    Unlike a convolution with padding, the layer does not multiply the zero frames before and after the clip.
    """

    @staticmethod
    def covers(layer: nn.Conv3d) -> bool:
        """Return whether a layer has kernel and padding only in time, and no stride."""
        in_space = layer.kernel_size[1:] == (1, 1) and tuple(layer.padding[1:]) == (0, 0)
        plain = layer.stride == layer.dilation == (1, 1, 1) and layer.groups == 1 and layer.bias is None
        return in_space and plain and layer.padding_mode == "zeros" and int(layer.padding[0]) < layer.kernel_size[0]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = bias is not None or not _single_precision_on_cpu(input, weight)
        if plain or not input.is_contiguous(memory_format=CHANNELS_LAST):
            output: Tensor = super()._conv_forward(input, weight, bias)
            return output
        matrices = weight.flatten(2).movedim(-1, 0)
        output = _Temporal.apply(input.movedim(1, -1), matrices, self.padding[0])
        return output.movedim(-1, 1)


class _Temporal(torch.autograd.Function):
    """``(B, T, H, W, C)`` and ``(moments, D, C)`` → ``(B, T', H, W, D)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        output = x.new_zeros(len(x), x.shape[1] + 2 * padding - len(weight) + 1, *x.shape[2:4], weight.shape[1])
        for matrix, inputs, outputs in _moments(x, output, weight, padding):
            outputs.addmm_(inputs, matrix.T)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = torch.zeros_like(x)
            for matrix, inputs, outputs in _moments(of_x, gradient, weight, ctx.padding):
                inputs.addmm_(outputs, matrix)
        if ctx.needs_input_grad[1]:
            of_weight = weight.new_zeros(weight.shape)
            for matrix, inputs, outputs in _moments(x, gradient, of_weight, ctx.padding):
                matrix.addmm_(outputs.T, inputs)
        return of_x, of_weight, None


def _moments(x: Tensor, output: Tensor, weight: Tensor, padding: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the matrix and the rows of input and output for each moment of the kernel and each clip."""
    for moment, matrix in enumerate(weight):
        shift = moment - padding
        first, last = max(0, -shift), min(output.shape[1], x.shape[1] - shift)
        if first < last:
            for inputs, outputs in zip(x, output, strict=True):
                yield matrix, inputs[first + shift : last + shift].flatten(0, 2), outputs[first:last].flatten(0, 2)


class DepthwiseConv3d(nn.Conv3d):
    """A depthwise convolution with a faster backward pass.

    oneDNN has 3-D depthwise kernels only for the forward pass. Its backward pass is one small matrix product per
    channel and clip, each with a barrier for all threads, which is slow with one thread, and much slower with several
    threads if other programs use the cores.
    """

    @staticmethod
    def covers(layer: nn.Conv3d) -> bool:
        """Return whether a layer has one filter per channel, no stride in time, and less padding than its kernel."""
        alone = 1 < layer.groups == layer.in_channels == layer.out_channels and layer.padding_mode == "zeros"
        plain = layer.stride[0] == 1 and layer.dilation == (1, 1, 1) and layer.bias is None
        pads = zip(layer.padding, layer.kernel_size, strict=True)
        return alone and plain and all(pad < size for pad, size in pads)  # type: ignore[operator]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        differentiated = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
        if bias is not None or not differentiated or not _single_precision_on_cpu(input, weight):
            output: Tensor = super()._conv_forward(input, weight, bias)
        else:
            output = _Depthwise.apply(input, weight, self.stride, self.padding)
        return output


class _Depthwise(torch.autograd.Function):
    """``conv3d`` with one filter per channel, whose gradients use available kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=CHANNELS_LAST)
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _gradient_of_input(gradient, x.shape, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            of_weight = _gradient_of_weight(gradient, x, weight, ctx.stride, ctx.padding)
        return of_x, of_weight, None, None


def _gradient_of_input(gradient: Tensor, shape: torch.Size, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
    """Compute the gradient as a convolution with the reversed kernel; gaps of the stride are filled with zeros."""
    kernel = weight.shape[2:]
    if stride != (1, 1, 1):
        # As large as the output would be without a stride.
        size = [extent + 2 * pad - width + 1 for extent, pad, width in zip(shape[2:], padding, kernel, strict=True)]
        spread = gradient.new_zeros(shape[0], *size, shape[1]).movedim(-1, 1)
        spread[:, :, :, :: stride[1], :: stride[2]] = gradient
        gradient = spread
    reach = [width - 1 - pad for width, pad in zip(kernel, padding, strict=True)]
    return F.conv3d(gradient, weight.flip(2, 3, 4), None, 1, reach, 1, len(weight))


def _gradient_of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
    """Compute the gradient for each moment of the kernel as that of a 2-D convolution of all frames of the batch.

    Zero frames are added around each clip of ``x`` and after each clip of the gradient. A shift by one frame is then a
    shift by one position in the concatenated clips, without a copy.
    """
    moments, pad = weight.shape[2], padding[0]
    images = _end_to_end(x, pad, pad)
    gradients = _end_to_end(gradient, 0, moments - 1)
    last = len(gradients) - (moments - 1)
    result = torch.empty_like(weight)
    for moment in range(moments):
        result[:, :, moment] = torch.ops.aten.convolution_backward(
            gradients[:last], images[moment : moment + last], weight[:, :, moment], None, stride[1:], padding[1:],
            (1, 1), False, (0, 0), len(weight), (False, True, False),
        )[1]  # fmt: skip
    return result


def _end_to_end(clips: Tensor, before: int, after: int) -> Tensor:
    """``(B, C, T, H, W)`` → ``(B · (before + T + after), C, H, W)``, with frames of zeros between the clips."""
    return F.pad(clips.movedim(1, -1), (0, 0, 0, 0, 0, 0, before, after)).flatten(0, 1).movedim(-1, 1)


def traced() -> bool:
    """Return whether the network is being compiled or exported, which needs plain convolutions."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _single_precision_on_cpu(input: Tensor, weight: Tensor) -> bool:
    single = input.device.type == "cpu" and input.dtype == weight.dtype == torch.float32
    return single and not torch.is_autocast_enabled("cpu") and not traced()


_KINDS = (DepthwiseConv3d, FrameConv3d, TemporalConv3d)


def arrange_for_cpu(network: nn.Module) -> None:
    """Replace the supported convolutions of a network by these layers, in place."""
    for layer in network.modules():
        if type(layer) is nn.Conv3d:
            layer.__class__ = next((kind for kind in _KINDS if kind.covers(layer)), nn.Conv3d)
