"""Forward passes over the batches of one domain or of both, and the batches that a method reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from microg_da.adaptation.losses import multilabel_bce
from microg_da.data.batches import concatenate_batches
from microg_da.models.detector import ActionDetector
from microg_da.types import AnyBatch, ClipBatch, Domain, LabelledClipBatch, Prediction


def detect(detector: ActionDetector, batch: ClipBatch) -> Prediction:
    """The detector's own prediction for the people of a batch."""
    prediction: Prediction = detector(batch.frames, batch.boxes, batch.clip_index)
    return prediction


def forward_both(detector: ActionDetector, first: ClipBatch, second: ClipBatch) -> tuple[Prediction, Prediction]:
    """One forward pass over two batches.

    Batch statistics are those of both, and a pass over both costs less than two passes.
    """
    return split_prediction(detect(detector, concatenate_batches(first, second)), first.num_boxes)


def split_prediction(prediction: Prediction, count: int) -> tuple[Prediction, Prediction]:
    """The first ``count`` people and the rest."""
    return (
        Prediction(prediction.logits[:count], prediction.features[:count]),
        Prediction(prediction.logits[count:], prediction.features[count:]),
    )


def supervised_losses(detector: ActionDetector, batch: LabelledClipBatch) -> dict[str, Tensor]:
    """Binary cross-entropy of a labelled batch."""
    return {"supervised": multilabel_bce(detect(detector, batch).logits, batch.labels)}


def required(batch: AnyBatch | None, domain: Domain) -> AnyBatch:
    """The batch of a domain that the method reads.

    Raises:
        RuntimeError: if the stage was set up without it.
    """
    if batch is None:
        raise RuntimeError(f"the method trains on {domain} clips, and the stage was set up without them")
    return batch


def labelled(batch: ClipBatch) -> LabelledClipBatch:
    """The batch as one with labels, for methods with ``uses_target_labels``.

    Raises:
        RuntimeError: if the batch has none.
    """
    if not isinstance(batch, LabelledClipBatch):
        raise RuntimeError(f"the method trains on labels, and a batch of the {batch.domain} domain has none")
    return batch


def limit_clips(clips: Iterable[ClipBatch], most: int | None) -> Iterator[ClipBatch]:
    """Whole batches until there are at least ``most`` clips; all of them for None."""
    seen = 0
    for batch in clips:
        if most is not None and seen >= most:
            return
        seen += len(batch)
        yield batch
