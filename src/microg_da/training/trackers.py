"""Logging to experiment trackers. All trackers use the same names, and uploads need the user's consent.

- ``STAGE-METRIC``, e.g. ``adapt-val/map``, every epoch. The file ``metrics/adapt/metrics.csv`` has the same values in
  its column ``val/map``.
- ``VARIANT/DOMAIN_SCORE``, e.g. ``adapted/target_map``, at the end; ``validator/NAME`` for the final model.
- ``results``, ``per_class`` and ``examples``: tables and pictures.
"""

from __future__ import annotations

import hashlib
import json
import math
import netrc
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from pytorch_lightning.loggers import CSVLogger, Logger

from microg_da.errors import InputError
from microg_da.files import inside, replacing
from microg_da.processes import is_leader
from microg_da.runs.code_state import CodeState, code_state
from microg_da.runs.examples import ExampleKeyframe, ExamplePerson, read_example_list
from microg_da.runs.folder import Run
from microg_da.taxonomy import Taxonomy, get_taxonomy
from microg_da.types import DOMAINS, Stage

_SCORES = ("map", "f1_macro", "recall_macro", "auroc_macro", "top1")
_LIKELIEST = 3
"""The number of predicted actions shown for a person."""


def loggers(run: Run, stage: Stage) -> list[Logger]:
    """Return the loggers that ``logger`` names, and the CSV logger, which the report reads."""
    chosen: list[Logger] = [CSVLogger(run.metrics_folder, name=stage, version="")]
    names = tracker_names(run)
    if "wandb" in names:
        chosen.append(_wandb(run, stage))
    if "tensorboard" in names:
        chosen.append(_tensorboard(run, stage))
    return chosen


def tracker_names(run: Run) -> list[str]:
    """Return the names in ``logger``."""
    return [name.strip() for name in run.config.logger.split(",")]


def finish_logging(run: Run) -> None:
    """Log the final scores, tables and pictures, and close the trackers."""
    if not is_leader():
        return
    with replacing(run.per_class_csv) as temporary:
        run.results.per_class_table().to_csv(temporary, index=False)
    if "tensorboard" in tracker_names(run):
        _finish_tensorboard(run)
    if "wandb" in tracker_names(run):
        _finish_wandb(run)


# ---------------------------------------------------------------------------------------------- logged values


def final_scores(run: Run) -> dict[str, float]:
    """Return all final scores by name, without undefined ones."""
    results = run.results
    scores = {
        f"{result.variant}/{domain}_{name}": value
        for result in results.variants
        for domain in DOMAINS
        for name in _SCORES
        if not math.isnan(value := result.score(domain, name))
    }
    if results.gap_recovered is not None:
        scores["gap_recovered"] = results.gap_recovered
    if results.final is not None:
        validators = results.final.validators.items()
        scores |= {f"validator/{name}": value for name, value in validators if not math.isnan(value)}
    return scores


@dataclass(frozen=True)
class RunFacts:
    """Facts beyond the configuration that explain scores; attributes as in :class:`~microg_da.runs.record.RunRecord`.

    ``code`` is the state of the code that made the run.
    """

    notice: str | None
    embedded_data: bool
    oracle: bool
    selection: str
    protocol: str
    split_hash: str | None
    warnings: tuple[str, ...]
    code: CodeState


def run_facts(run: Run) -> RunFacts:
    """Return the current facts of a run."""
    record = run.record
    return RunFacts(
        record.notice,
        record.embedded_data,
        record.oracle,
        record.selection,
        record.protocol,
        record.split_hash,
        record.warnings,
        code_state(),
    )


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    return {"results": run.results.as_table(), "per_class": run.results.per_class_table()}


def _likeliest(probabilities: Mapping[int, float]) -> list[tuple[int, float]]:
    return sorted(probabilities.items(), key=lambda item: -item[1])[:_LIKELIEST]


def _caption(example: ExampleKeyframe, taxonomy: Taxonomy) -> str:
    """Describe the people and actions in a picture, and the predictions of each variant."""
    lines = [f"{example.domain} {example.video_id}, {example.frame_stamp}"]
    for number, person in enumerate(example.people, 1):
        lines.append(f"person {number}, true: " + ", ".join(_name(action, taxonomy) for action in person.true))
        for variant, probabilities in person.predictions.items():
            predicted = [f"{_name(action, taxonomy)} {value:.2f}" for action, value in _likeliest(probabilities)]
            lines.append(f"person {number}, {variant}: " + ", ".join(predicted))
    return "\n".join(lines)


def _name(action: int, taxonomy: Taxonomy) -> str:
    return taxonomy.names[taxonomy.index(action)] if action in taxonomy.ids else f"action {action}"


# --------------------------------------------------------------------------------------------------------- W&B


def wandb_is_set_up() -> bool:
    """Return whether the user chose a W&B mode or logged in; otherwise W&B only writes to disk."""
    if "WANDB_API_KEY" in os.environ or "WANDB_MODE" in os.environ:
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _wandb(run: Run, prefix: str) -> Any:
    offline = not wandb_is_set_up()
    if offline:
        # W&B sends reports of its errors to its developers unless this is disabled.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
        from pytorch_lightning.loggers import WandbLogger
    except ImportError as error:
        raise InputError("logger=wandb needs the package wandb: pip install 'microg_da[wandb]'.") from error
    record = run.record
    marks = {"oracle": record.oracle, "embedded data": record.embedded_data}
    # All stages share one W&B run, as a sweep agent expects of a trial; the prefix separates their metrics. A fixed id
    # lets a resumed run continue the W&B run. An agent sets its own id.
    identity = f"{run.config.experiment}/{run.path.name}/{record.created}"
    return WandbLogger(
        project="microg_da",
        name=f"{run.config.experiment}/{run.path.name}",
        id=None if "WANDB_RUN_ID" in os.environ else hashlib.sha256(identity.encode()).hexdigest()[:16],
        config=asdict(run.config) | {"run": asdict(run_facts(run))},
        tags=[mark for mark, holds in marks.items() if holds],
        save_dir=run.path,
        offline=offline,
        prefix=prefix,
        experiment=wandb.run,
    )


def _finish_wandb(run: Run) -> None:
    # In a resumed run, this process may not have created a W&B run yet.
    tracked = _wandb(run, "results").experiment
    import wandb

    tracked.config.update({"run": asdict(run_facts(run))}, allow_val_change=True)
    media: dict[str, object] = {name: wandb.Table(dataframe=table) for name, table in _tables(run).items()}
    if examples := read_example_list(run.examples_file):
        media["examples"] = [_wandb_picture(run, example) for example in examples]
    tracked.log(media)
    tracked.summary.update(final_scores(run))
    wandb.finish()


def _wandb_picture(run: Run, example: ExampleKeyframe) -> Any:
    """Return a keyframe with one layer of boxes for the ground truth and one for each variant."""
    import wandb

    taxonomy = get_taxonomy(run.config.data.taxonomy)
    labels = dict(zip(taxonomy.ids, taxonomy.names, strict=True))
    layers: dict[str, list[object]] = {}
    for person in example.people:
        predicted = [(str(variant), _likeliest(values)) for variant, values in person.predictions.items()]
        for layer, actions in [("true", [(action, 1.0) for action in person.true]), *predicted]:
            boxes_here = [_wandb_box(person, action, probability, taxonomy) for action, probability in actions]
            layers.setdefault(layer, []).extend(boxes_here)
    boxes = {layer: {"box_data": found, "class_labels": labels} for layer, found in layers.items() if found}
    return wandb.Image(str(_picture(run, example)), caption=_caption(example, taxonomy), boxes=boxes or None)


def _wandb_box(person: ExamplePerson, action: int, probability: float, taxonomy: Taxonomy) -> dict[str, object]:
    return {
        "position": dict(zip(("minX", "minY", "maxX", "maxY"), person.box, strict=True)),
        "class_id": action,
        "box_caption": _name(action, taxonomy),
        "scores": {"probability": probability},
    }


def _picture(run: Run, example: ExampleKeyframe) -> Path:
    return inside(run.examples_file.parent, example.image)


# ------------------------------------------------------------------------------------------------- TensorBoard


def _tensorboard(run: Run, stage: Stage) -> Logger:
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(run.path, name="tensorboard", version="", prefix=stage)
    except ModuleNotFoundError as error:
        raise InputError(
            "logger=tensorboard needs the package tensorboard: pip install 'microg_da[tensorboard]'."
        ) from error


def _finish_tensorboard(run: Run) -> None:
    import numpy as np
    from omegaconf import OmegaConf
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    taxonomy = get_taxonomy(run.config.data.taxonomy)
    with SummaryWriter(run.tensorboard_folder) as writer:
        for name, value in final_scores(run).items():
            writer.add_scalar(name, value, 0)
        texts = {
            **{name: _markdown(table) for name, table in _tables(run).items()},
            "config": _indented(OmegaConf.to_yaml(OmegaConf.structured(run.config))),
            "run": _indented(json.dumps(asdict(run_facts(run)), indent=1)),
        }
        for name, text in texts.items():
            writer.add_text(name, text)
        for number, example in enumerate(read_example_list(run.examples_file)):
            image = np.asarray(Image.open(_picture(run, example)).convert("RGB"))
            size = np.array([image.shape[1], image.shape[0]] * 2)
            boxes = np.array([person.box for person in example.people]).reshape(-1, 4) * size
            tag = f"examples/{Path(example.image).stem}"
            writer.add_image_with_boxes(tag, image, boxes, global_step=0, dataformats="HWC")
            writer.add_text(tag, _indented(_caption(example, taxonomy)), number)


def _markdown(table: pd.DataFrame) -> str:
    lines = [[str(name) for name in table.columns], ["---"] * len(table.columns)]
    lines += [[_cell(value) for value in line] for line in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return "" if value is None else str(value).replace("|", "\\|")


def _indented(text: str) -> str:
    """Return text that TensorBoard's Markdown does not change."""
    return "\n".join(f"    {line}" for line in text.splitlines())
