"""Forward passes over the batches of one domain or of both, and the batches that a method reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from microg_da.adaptation.losses import multilabel_bce
from microg_da.data.batches import concatenate_batches
from microg_da.models.detector import ActionDetector
from microg_da.types import AnyBatch, ClipBatch, Domain, LabelledClipBatch, Prediction


def detect(detector: ActionDetector, batch: ClipBatch) -> Prediction:
    """Return the prediction of the detector for the people of a batch."""
    prediction: Prediction = detector(batch.frames, batch.boxes, batch.clip_index)
    return prediction


def forward_both(detector: ActionDetector, first: ClipBatch, second: ClipBatch) -> tuple[Prediction, Prediction]:
    """One forward pass over two batches.

    Batch statistics are those of both batches, and one pass costs less than two.
    """
    return split_prediction(detect(detector, concatenate_batches(first, second)), first.num_boxes)


def split_prediction(prediction: Prediction, count: int) -> tuple[Prediction, Prediction]:
    """Return the predictions for the first ``count`` people and for the rest."""
    return (
        Prediction(prediction.logits[:count], prediction.features[:count]),
        Prediction(prediction.logits[count:], prediction.features[count:]),
    )


def supervised_losses(detector: ActionDetector, batch: LabelledClipBatch) -> dict[str, Tensor]:
    """Return the binary cross-entropy of a labelled batch."""
    return {"supervised": multilabel_bce(detect(detector, batch).logits, batch.labels)}


def required(batch: AnyBatch | None, domain: Domain) -> AnyBatch:
    """Return the batch of a domain that the method needs.

    Raises:
        RuntimeError: if the stage has no clips of this domain.
    """
    if batch is None:
        raise RuntimeError(f"the method needs {domain} clips, but the stage was set up without them")
    return batch


def labelled(batch: ClipBatch) -> LabelledClipBatch:
    """Return the batch as a labelled batch, for methods with ``uses_target_labels``.

    Raises:
        RuntimeError: if the batch has no labels.
    """
    if not isinstance(batch, LabelledClipBatch):
        raise RuntimeError(f"the method needs labels, but a batch of the {batch.domain} domain has none")
    return batch


def limit_clips(clips: Iterable[ClipBatch], most: int | None) -> Iterator[ClipBatch]:
    """Yield whole batches until there are at least ``most`` clips; all batches for None."""
    seen = 0
    for batch in clips:
        if most is not None and seen >= most:
            return
        seen += len(batch)
        yield batch
