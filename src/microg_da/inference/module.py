"""Lightning modules for passes over clips, for validation, tests and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pytorch_lightning as pl
from torch import nn

from microg_da.adaptation.predictor import Predictor
from microg_da.inference.sinks import ProbingSink, Sink
from microg_da.types import ClipBatch, Prediction


class PassModule(pl.LightningModule):
    """Lightning module that predicts clips in ``validate``, ``test`` and ``predict`` of any Lightning trainer.

    ``validate`` and ``test`` pass the predictions to :meth:`sinks`; ``predict`` returns them. Subclasses define the
    predictor. Test-time methods that need gradients need a trainer with ``inference_mode=False``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pass = ExitStack()
        self._predictor: Predictor | None = None

    def current_predictor(self) -> Predictor:
        """Return the predictor of the next pass."""
        raise NotImplementedError

    def sinks(self) -> Sequence[Sink]:
        """Return the sinks that accumulate the predictions."""
        return ()

    def begin_pass(self) -> None:
        """Let the test-time method prepare the detector."""
        self.end_pass()
        self._predictor = self._pass.enter_context(self.current_predictor().testing())

    def end_pass(self) -> None:
        """Let the test-time method restore the detector, if a pass has begun."""
        self._pass.close()
        self._predictor = None

    def predict_batch(self, batch: ClipBatch) -> Prediction:
        """Return the predictions for the ``K`` people of a batch, within a pass."""
        assert self._predictor is not None, "no pass has begun"
        return self._predictor(batch)

    def _fill_sinks(self, batch: ClipBatch) -> None:
        prediction = self.predict_batch(batch)
        for sink in self.sinks():
            sink.update(batch, prediction)
            if isinstance(sink, ProbingSink):
                sink.probe(batch, prediction, self.predict_batch)

    # ------------------------------------------------------------------------------------------ Lightning's hooks

    def on_validation_epoch_start(self) -> None:
        """Begin a pass."""
        self.begin_pass()

    def on_test_epoch_start(self) -> None:
        """Begin a pass."""
        self.begin_pass()

    def on_predict_epoch_start(self) -> None:
        """Begin a pass."""
        self.begin_pass()

    def validation_step(self, batch: ClipBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Pass the predictions to the sinks."""
        self._fill_sinks(batch)

    def test_step(self, batch: ClipBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Pass the predictions to the sinks."""
        self._fill_sinks(batch)

    def predict_step(self, batch: ClipBatch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
        """Return the predictions for the people of a batch."""
        return self.predict_batch(batch)

    def on_validation_epoch_end(self) -> None:
        """End the pass."""
        self.end_pass()

    def on_test_epoch_end(self) -> None:
        """End the pass."""
        self.end_pass()

    def on_predict_epoch_end(self) -> None:
        """End the pass."""
        self.end_pass()


class InferenceModule(PassModule):
    """Module for the passes of one predictor.

    Args:
        predictor: the detector and its test-time method.
        sinks: accumulate the predictions.
        transform: applied to each batch on the device before prediction.
    """

    def __init__(
        self,
        predictor: Predictor,
        sinks: Sequence[Sink] = (),
        transform: Callable[[ClipBatch], ClipBatch] | None = None,
    ) -> None:
        super().__init__()
        self._used = predictor
        self._sinks = sinks
        self._transform = transform
        # Modules are registered, so that they move to the device of the trainer.
        parts = [predictor.detector, predictor.method, *sinks]
        self.parts = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))

    def current_predictor(self) -> Predictor:
        """Return the predictor."""
        return self._used

    def sinks(self) -> Sequence[Sink]:
        """Return the sinks."""
        return self._sinks

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Transform a batch after its transfer to the device."""
        return batch if self._transform is None else self._transform(batch)
