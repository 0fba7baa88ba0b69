"""The estimated up of the people in the report's examples."""

from __future__ import annotations

import torch

from microg_da.adaptation.gravity_frame import GravityFrame
from microg_da.adaptation.predictor import Predictor
from microg_da.data.batches import collate_clips
from microg_da.data.datamodule import DomainDatasets
from microg_da.files import write_json
from microg_da.runs.examples import read_example_list
from microg_da.runs.folder import Run
from microg_da.types import Clip, ClipKey


def write_example_ups(run: Run, datasets: DomainDatasets, predictor: Predictor) -> None:
    """Write ``examples/ups.json``, unless it is there or the method does not estimate up.

    One entry for each example that has people: ``domain``, ``video_id``, ``frame_stamp``, and ``people`` with ``box``,
    ``degrees`` (clockwise from the top of the picture) and ``density`` (at angles evenly spaced from 0).
    """
    folder = run.examples_file.parent
    method = predictor.method
    if not isinstance(method, GravityFrame) or (folder / "ups.json").exists():
        return
    predictor.detector.eval()
    entries = []
    for example in read_example_list(run.examples_file):
        dataset = datasets.get(example.domain, "test", labelled=False)
        place = list(dataset.keys).index(ClipKey(example.video_id, example.frame_stamp))
        where = {"domain": example.domain, "video_id": example.video_id, "frame_stamp": example.frame_stamp}
        entries.append({**where, "people": _people(predictor, method, dataset[place])})
    write_json(folder / "ups.json", entries)
    predictor.detector.train()


@torch.no_grad()
def _people(predictor: Predictor, method: GravityFrame, clip: Clip) -> list[dict[str, object]]:
    batch = collate_clips([clip])
    found = method.finder.find(predictor.detector, batch)
    rows = zip(batch.table_boxes.tolist(), found.degrees.tolist(), found.log_density.exp().tolist(), strict=True)
    return [
        {"box": box, "degrees": round(degrees, 1), "density": [round(value, 4) for value in density]}
        for box, degrees, density in rows
    ]
