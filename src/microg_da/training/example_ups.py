"""The estimated up of the people in the report's examples."""

from __future__ import annotations

import torch

from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.up_method import UpMethod
from microg_da.data.batches import collate_clips
from microg_da.data.datamodule import DomainDatasets
from microg_da.runs.example_ups import KeyframeUps, PersonUp, write_ups
from microg_da.runs.examples import read_example_list
from microg_da.runs.folder import Run
from microg_da.types import Clip, ClipKey


def write_example_ups(run: Run, datasets: DomainDatasets, predictor: Predictor) -> None:
    """Write ``examples/ups.json``, unless it exists or the method does not estimate up.

    The file has one entry for each example with people.
    """
    method = predictor.method
    if not isinstance(method, UpMethod) or run.example_ups_file.exists():
        return
    predictor.detector.eval()
    ups = []
    for example in read_example_list(run.examples_file):
        dataset = datasets.get(example.domain, "test", labelled=False)
        place = list(dataset.keys).index(ClipKey(example.video_id, example.frame_stamp))
        people = _people(predictor, method, dataset[place])
        ups.append(KeyframeUps(example.domain, example.video_id, example.frame_stamp, people))
    write_ups(ups, run.example_ups_file)
    predictor.detector.train()


@torch.no_grad()
def _people(predictor: Predictor, method: UpMethod, clip: Clip) -> tuple[PersonUp, ...]:
    batch = collate_clips([clip])
    found = method.find(predictor.detector, batch)
    rows = zip(batch.table_boxes.tolist(), found.degrees.tolist(), found.log_density.exp().tolist(), strict=True)
    return tuple(
        PersonUp(tuple(box), round(degrees, 1), tuple(round(value, 4) for value in density))
        for box, degrees, density in rows
    )
