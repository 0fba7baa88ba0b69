"""Base of the methods that change a detector during a test and restore it afterwards."""

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
"""How many target training batches the source model is asked about to find the support."""


@dataclass
class OnlineArguments:
    """Settings that all methods have that learn from test batches.

    Attributes:
        lr: learning rate of the method's optimiser.
        steps: steps a batch.
        episodic: whether each batch starts from the tested detector again.
    """

    lr: float = 1e-3
    steps: int = 1
    episodic: bool = False


class Online(TestTimeMethod):
    """A method that learns from each test batch as it comes.

    A method says in :meth:`begin` which parameters it changes, and in :meth:`adapt` how one batch changes them. A batch
    without people changes nothing. Of several processes each adapts to its own share of the clips.

    The classes that take part are those to which the source model gives mass on target training clips.
    """

    Arguments: ClassVar[type] = OnlineArguments
    arguments: OnlineArguments
    needs_encoder = "changes the encoder's normalisation layers"

    @torch.no_grad()
    def prepare(self, detector: ActionDetector, source: Iterable[ClipBatch], target: Iterable[ClipBatch]) -> None:
        """Find the support by some of the target clips; arguments as in :meth:`TestTimeMethod.prepare`."""
        seen = [detect(detector, batch).logits.float().sigmoid() for batch in islice(target, SUPPORT_BATCHES)]
        if seen:
            self.find_support(torch.cat(seen))

    def begin(self, detector: ActionDetector) -> list[nn.Parameter]:
        """Set modes of layers, and choose the parameters that are changed.

        Raises:
            InputError: if the detector has none that the method could change.
        """
        raise NotImplementedError

    def check_detector(self, detector: ActionDetector) -> None:
        """The detector has parameters that the method changes."""
        self.begin(detector)

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """The optimiser of the steps; Adam, unless a method overrides it."""
        return torch.optim.Adam(parameters, lr=self.arguments.lr)

    def adapt(self, detector: ActionDetector, batch: ClipBatch, optimizer: Optimizer) -> Prediction | None:
        """One step on a batch, with gradients enabled.

        Returns:
            What the detector said before the step, if the method asked it.
        """
        raise NotImplementedError

    def forget(self) -> None:
        """Called when the detector is what was tested at first: let go of what was learnt of the test clips."""

    def start_test(self, detector: ActionDetector) -> None:
        """Remember the detector and prepare it."""
        self._before = Snapshot(detector)
        chosen = self.begin(detector)
        detector.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        self._chosen = chosen
        self._optimizer = self.optimizer(chosen)
        self.forget()

    def predict(self, detector: ActionDetector, batch: ClipBatch) -> Prediction:
        """Learn from a batch, and say what it shows.

        The answer is the one given before the last step, which costs no further pass, as in the papers. Where the
        detector is reset before the next batch, that step alone has no effect, so the batch is predicted once more.
        """
        # In float32: autocast keeps rounded copies of weights, which would be stale after a step.
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
        """Go back to the detector that is tested, in the middle of a test."""
        self._before.restore_weights(detector)
        self._optimizer = self.optimizer(self._chosen)
        self.forget()

    def end_test(self, detector: ActionDetector) -> None:
        """Give the detector back exactly as it was."""
        self._before.restore(detector)
        del self._before, self._chosen, self._optimizer


class Snapshot:
    """Weights, statistics, modes and what is trained of a module at one moment."""

    def __init__(self, module: nn.Module) -> None:
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.trained = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
        self.modes = {name: part.training for name, part in module.named_modules()}

    def restore_weights(self, module: nn.Module) -> None:
        """Put weights and statistics back, in place."""
        module.load_state_dict(self.state)

    def restore(self, module: nn.Module) -> None:
        """Put everything back."""
        self.restore_weights(module)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(self.trained[name])
            parameter.grad = None
        for name, part in module.named_modules():
            part.training = self.modes[name]


def batch_norm_layers(detector: nn.Module, method: str) -> list[_BatchNorm]:
    """Every batch-norm layer of a detector.

    Raises:
        InputError: if there is none.
    """
    layers = [module for module in detector.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        raise InputError(
            f"adaptation {method!r} needs batch normalisation, and this model has none. Choose another one."
        )
    return layers


def use_batch_statistics(layers: list[_BatchNorm]) -> None:
    """Let layers normalise by what they see in a batch, frozen ones too.

    Their running statistics move meanwhile; a :class:`Snapshot` puts them back.
    """
    for layer in layers:
        layer.train()


def affine_parameters(layers: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Scales and shifts of normalisation layers."""
    return [parameter for layer in layers for parameter in layer.parameters(recurse=False)]


def person_entropy(logits: Tensor) -> Tensor:
    """``(K,)`` entropy in nats of all classes of each person together.

    Classes are Bernoulli variables of their own, so that their entropies add up; it takes the place of the softmax
    entropy in the papers.

    Args:
        logits: ``(K, C)``.
    """
    return bernoulli_entropy(logits.float()).sum(dim=1)


def source_logits(name: str, what: str, detector: ActionDetector, source: Iterable[ClipBatch], batches: int) -> Tensor:
    """Logits ``(K, C)``, float32, of the people in the first batches of source clips.

    Args:
        name: of the method, for the message.
        what: the method takes from them, for the message.
        detector: in evaluation mode.
        source: the clips.
        batches: how many of them.

    Raises:
        InputError: if there are no people in them.
    """
    logits = [detect(detector, batch).logits.float() for batch in islice(source, batches)]
    if not sum(map(len, logits)):
        raise InputError(f"adaptation {name!r} found no people in the source clips to take {what} from.")
    return torch.cat(logits)
