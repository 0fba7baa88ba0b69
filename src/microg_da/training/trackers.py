"""What experiment trackers are told: the same names everywhere, and nothing leaves the machine without being asked.

- ``STAGE-METRIC``, e.g. ``adapt-val/map``, every epoch. On disk that is the column ``val/map`` of
  ``metrics/adapt/metrics.csv``.
- ``ROW/DOMAIN_SCORE``, e.g. ``adapted/target_map``, at the end; ``validator/NAME`` of the model the run ends with.
- ``results``, ``per_class`` and ``examples``: tables and pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from pytorch_lightning.loggers import CSVLogger, Logger

from microg_da.errors import InputError
from microg_da.files import replacing
from microg_da.runs.code_state import code_state
from microg_da.runs.folder import Run, is_leader
from microg_da.taxonomy import Taxonomy, get_taxonomy

DOMAINS = ("source", "target")
_ROWS = ("source_only", "adapted", "target_supervised")
_LIKELIEST = 3
"""How many predicted actions of a person are shown."""


def loggers(run: Run, stage: str) -> list[Logger]:
    """The loggers that ``logger=`` names; CSV is always among them, since the report is made of it."""
    chosen: list[Logger] = [CSVLogger(run.path / "metrics", name=stage, version="")]
    names = tracker_names(run)
    if "wandb" in names:
        chosen.append(_wandb(run, stage))
    if "tensorboard" in names:
        chosen.append(_tensorboard(run, stage))
    return chosen


def tracker_names(run: Run) -> list[str]:
    """What ``logger=`` names."""
    return [name.strip() for name in run.config.logger.split(",")]


def finish_logging(run: Run) -> None:
    """Tell the trackers the final scores, the tables and the pictures, and close them."""
    if not is_leader():
        return
    with replacing(run.path / "per_class.csv") as temporary:
        per_class_table(run).to_csv(temporary, index=False)
    if "tensorboard" in tracker_names(run):
        _finish_tensorboard(run)
    if "wandb" in tracker_names(run):
        _finish_wandb(run)


# ---------------------------------------------------------------------------------------------- what they are told


def final_scores(run: Run) -> dict[str, float]:
    """Every score of the run's end by its name; those that do not exist, e.g. without a positive, are left out."""
    rows = run.results["rows"]
    scores = {
        f"{row['name']}/{domain}_{score}": row[domain][score]
        for row in rows
        for domain in DOMAINS
        for score in ("map", "f1_macro", "recall_macro", "auroc_macro")
        if (row.get(domain) or {}).get(score) is not None
    }
    if run.results["gap_recovered"] is not None:
        scores["gap_recovered"] = run.results["gap_recovered"]
    for row in rows:
        # The rows come in order: what stays is said of the model that the run ends with.
        if row["name"] != "target_supervised":
            scores |= {f"validator/{name}": value for name, value in (row.get("validators") or {}).items()}
    return scores


def results_table(run: Run) -> pd.DataFrame:
    """One line for each row of the results and domain."""
    return pd.DataFrame(
        [
            {"row": row["name"], "method": row["method"], "domain": domain}
            | {name: value for name, value in row[domain].items() if name != "per_class"}
            | {"seconds": row["seconds"]}
            for row in run.results["rows"]
            for domain in DOMAINS
            if row.get(domain)
        ]
    )


def per_class_table(run: Run) -> pd.DataFrame:
    """One line for each row of the results, domain and class: ``ap``, ``f1``, ``recall``, ``auroc``, ``support``."""
    lines = [
        {"row": row["name"], "domain": domain, **scores}
        for row in run.results["rows"]
        for domain in DOMAINS
        for scores in (row.get(domain) or {}).get("per_class", ())
    ]
    return pd.DataFrame(lines)


def _facts(run: Run) -> dict[str, Any]:
    """What explains the scores besides the configuration."""
    known = ("notice", "embedded_data", "oracle", "selection", "protocol", "split_hash", "warnings")
    return {name: run.record.get(name) for name in known} | {"code": code_state()}


def _examples(run: Run) -> list[dict[str, Any]]:
    file = run.path / "examples" / "examples.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def _likeliest(probabilities: dict[str, float]) -> list[tuple[int, float]]:
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])[:_LIKELIEST]
    return [(int(action), probability) for action, probability in ranked]


def _caption(example: dict[str, Any], taxonomy: Taxonomy) -> str:
    """Who does what in a picture, and what each detector says."""
    lines = [f"{example['domain']} {example['video_id']}, {example['frame_stamp']}"]
    for number, person in enumerate(example["people"], 1):
        lines.append(f"person {number}, true: " + ", ".join(_name(action, taxonomy) for action in person["true"]))
        for row in _ROWS:
            if row in person:
                said = [f"{_name(action, taxonomy)} {value:.2f}" for action, value in _likeliest(person[row])]
                lines.append(f"person {number}, {row}: " + ", ".join(said))
    return "\n".join(lines)


def _name(action: int, taxonomy: Taxonomy) -> str:
    return taxonomy.names[taxonomy.index(action)] if action in taxonomy.ids else f"action {action}"


# --------------------------------------------------------------------------------------------------------- W&B


def wandb_is_set_up() -> bool:
    """Whether the user chose a W&B mode or logged in; else nothing is sent, and W&B writes to disk only."""
    if "WANDB_API_KEY" in os.environ or "WANDB_MODE" in os.environ:
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _wandb(run: Run, stage: str) -> Any:
    offline = not wandb_is_set_up()
    if offline:
        # W&B reports its own errors to its makers, and did not ask either.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
        from pytorch_lightning.loggers import WandbLogger
    except ImportError as error:
        raise InputError("logger=wandb needs the package wandb: pip install 'microg_da[wandb]'.") from error
    record = run.record
    marks = {"oracle": record.get("oracle"), "embedded data": record.get("embedded_data")}
    # All stages are one W&B run, as a sweep's agent expects of a trial; their metrics are told apart by the prefix. A
    # resumed run goes on with it, by an id that is always the same; an agent has given one already.
    identity = f"{run.config.experiment}/{run.path.name}/{record.get('created')}"
    return WandbLogger(
        project="microg_da",
        name=f"{run.config.experiment}/{run.path.name}",
        id=None if "WANDB_RUN_ID" in os.environ else hashlib.sha256(identity.encode()).hexdigest()[:16],
        config=dataclasses.asdict(run.config) | {"run": _facts(run)},
        tags=[mark for mark, holds in marks.items() if holds],
        save_dir=run.path,
        offline=offline,
        prefix=stage,
        experiment=wandb.run,
    )


def _finish_wandb(run: Run) -> None:
    # A resumed run may have trained nothing in this process.
    tracked = _wandb(run, "results").experiment
    import wandb

    tracked.config.update({"run": _facts(run)}, allow_val_change=True)
    tables = {"results": results_table(run), "per_class": per_class_table(run)}
    media: dict[str, Any] = {name: wandb.Table(dataframe=table) for name, table in tables.items()}
    if examples := _examples(run):
        media["examples"] = [_wandb_picture(run, example) for example in examples]
    tracked.log(media)
    tracked.summary.update(final_scores(run))
    wandb.finish()


def _wandb_picture(run: Run, example: dict[str, Any]) -> Any:
    """A keyframe with a layer of boxes for the truth and for each detector."""
    import wandb

    taxonomy = get_taxonomy(run.config.data.taxonomy)
    labels = dict(zip(taxonomy.ids, taxonomy.names, strict=True))
    layers: dict[str, Any] = {}
    for layer in ("true", *_ROWS):
        boxes = [
            {
                "position": dict(zip(("minX", "minY", "maxX", "maxY"), person["box"], strict=True)),
                "class_id": action,
                "box_caption": _name(action, taxonomy),
                "scores": {"probability": probability},
            }
            for person in example["people"]
            if layer in person
            for action, probability in (
                [(action, 1.0) for action in person["true"]] if layer == "true" else _likeliest(person[layer])
            )
        ]
        if boxes:
            layers[layer] = {"box_data": boxes, "class_labels": labels}
    return wandb.Image(_picture(run, example), caption=_caption(example, taxonomy), boxes=layers or None)


def _picture(run: Run, example: dict[str, Any]) -> str:
    return str(run.path / "examples" / example["image"])


# ------------------------------------------------------------------------------------------------- TensorBoard


def _tensorboard(run: Run, stage: str) -> Logger:
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
    with SummaryWriter(run.path / "tensorboard") as writer:
        for name, value in final_scores(run).items():
            writer.add_scalar(name, value, 0)
        texts = {
            "results": _markdown(results_table(run)),
            "per_class": _markdown(per_class_table(run)),
            "config": _indented(OmegaConf.to_yaml(OmegaConf.structured(run.config))),
            "run": _indented(json.dumps(_facts(run), indent=1)),
        }
        for name, text in texts.items():
            writer.add_text(name, text)
        for number, example in enumerate(_examples(run)):
            image = np.asarray(Image.open(_picture(run, example)).convert("RGB"))
            size = np.array([image.shape[1], image.shape[0]] * 2)
            boxes = np.array([person["box"] for person in example["people"]]).reshape(-1, 4) * size
            tag = f"examples/{Path(example['image']).stem}"
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
    """Text that TensorBoard's Markdown leaves as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())
