"""Base of methods that adapt a detector during a test and restore it afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from microg_da.adaptation.base import TestTimeMethod, detect
from microg_da.adaptation.losses import bernoulli_entropy
from microg_da.errors import InputError
from microg_da.models.detector import ActionDetector
from microg_da.types import ClipBatch, Prediction

SUPPORT_BATCHES = 16
"""Number of target training batches that the source model predicts to find the support."""


@dataclass
class OnlineArguments:
    """Settings of all methods that adapt to test batches.

    Attributes:
        lr: learning rate of the method's optimiser.
        steps: steps per batch.
        episodic: whether the detector is reset before each batch.
    """

    lr: float = 1e-3
    steps: int = 1
    episodic: bool = False


class Online(TestTimeMethod):
    """Base class of methods that adapt to each test batch in turn.

    :meth:`begin` returns the parameters to adapt, and :meth:`adapt` takes one step on a batch. A batch without people
    has no effect. Each of several processes adapts to its own part of the clips.

    The support consists of the classes that the source model predicts on target training clips.
    """

    Arguments: ClassVar[type] = OnlineArguments
    arguments: OnlineArguments
    needs_encoder = "changes the encoder's normalisation layers"

    @torch.no_grad()
    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Find the support on some of the target clips; arguments as in :meth:`TestTimeMethod.prepare`."""
        seen = [detect(detector, batch).logits.float().sigmoid() for batch in islice(target, SUPPORT_BATCHES)]
        if seen:
            self.find_support(torch.cat(seen))

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Set the modes of layers, and return the parameters to adapt.

        Raises:
            InputError: if the detector has no parameters that the method can adapt.
        """
        raise NotImplementedError

    def check_detector(self, detector: ActionDetector) -> None:
        """Check that the detector has parameters that the method can adapt."""
        self.begin(detector)

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return the optimiser: Adam, unless a method overrides it."""
        return torch.optim.Adam(parameters, lr=self.arguments.lr)

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction | None:
        """Take one step on a batch, with gradients enabled.

        Returns:
            The prediction before the step, if the method computes it; else None.
        """
        raise NotImplementedError

    def forget(self) -> None:
        """Called when the detector is reset; clears all state from test clips."""

    def start_test(self, detector: ActionDetector) -> None:
        """Store the state of the detector and prepare it."""
        self._before = Snapshot(detector)
        chosen = self.begin(detector)
        detector.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        self._chosen = chosen
        self._optimizer = self.optimizer(chosen)
        self.forget()

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Adapt to a batch and predict it.

        The result is the prediction before the last step, as in the papers, which needs no further pass. If the
        detector is reset before the next batch, the batch is predicted again after the last step, which would otherwise
        have no effect.
        """
        # In float32, since the copies of weights that autocast caches would be stale after a step.
        with torch.autocast(batch.frames.device.type, enabled=False):
            if not batch.num_boxes:
                return detect(detector, batch)
            if self.arguments.episodic:
                self.recover(detector)
            prediction = None
            for _ in range(self.arguments.steps):
                with torch.enable_grad():
                    prediction = self.adapt(detector, batch, self._optimizer)
            if prediction is None or self.arguments.episodic:
                prediction = detect(detector, batch)
        return Prediction(prediction.logits.detach(), prediction.features.detach())

    def recover(self, detector: ActionDetector) -> None:
        """Reset the detector during a test."""
        self._before.restore_weights(detector)
        self._optimizer = self.optimizer(self._chosen)
        self.forget()

    def end_test(self, detector: ActionDetector) -> None:
        """Restore the detector exactly."""
        self._before.restore(detector)
        del self._before, self._chosen, self._optimizer


class Snapshot:
    """A copy of the weights, statistics, modes and ``requires_grad`` flags of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.trained = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
        self.modes = {name: part.training for name, part in module.named_modules()}

    def restore_weights(self, module: nn.Module) -> None:
        """Restore weights and statistics in place."""
        module.load_state_dict(self.state)

    def restore(self, module: nn.Module) -> None:
        """Restore the complete state."""
        self.restore_weights(module)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(self.trained[name])
            parameter.grad = None
        for name, part in module.named_modules():
            part.training = self.modes[name]


def batch_norm_layers(detector: nn.Module, method: str) -> list[_BatchNorm]:
    """Return all batch-norm layers of a detector.

    Raises:
        InputError: if there are none.
    """
    layers = [module for module in detector.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        raise InputError(
            f"adaptation {method!r} needs batch normalisation, which this model does not have. Choose another method."
        )
    return layers


def use_batch_statistics(layers: list[_BatchNorm]) -> None:
    """Switch layers, including frozen ones, to the statistics of the batch.

    Their running statistics change; a :class:`Snapshot` restores them.
    """
    for layer in layers:
        layer.train()


def affine_parameters(layers: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Return the scales and shifts of normalisation layers."""
    return [parameter for layer in layers for parameter in layer.parameters(recurse=False)]


def person_entropy(logits: Tensor) -> Tensor:
    """Return the entropy ``(K,)`` in nats of each person, summed over classes.

    Classes are independent Bernoulli variables, so that their entropies add up. This replaces the softmax entropy of
    the papers.

    Args:
        logits: ``(K, C)``.
    """
    return bernoulli_entropy(logits.float()).sum(dim=1)


def source_logits(name: str, what: str, detector: ActionDetector, source: Iterable[ClipBatch], batches: int) -> Tensor:
    """Return float32 logits ``(K, C)`` of the people in the first batches of source clips.

    Args:
        name: the name of the method, for the error message.
        what: the quantity that the method estimates from them, for the error message.
        detector: the detector, in evaluation mode.
        source: batches of source clips.
        batches: number of batches.

    Raises:
        InputError: if the batches contain no people.
    """
    logits = [detect(detector, batch).logits.float() for batch in islice(source, batches)]
    if not sum(map(len, logits)):
        raise InputError(f"adaptation {name!r} needs people in source clips to estimate {what}, but found none.")
    return torch.cat(logits)
