"""Format of help texts, with all defaults and two examples at the end."""

from __future__ import annotations

import argparse

EXAMPLES = {
    "fit": (
        "fit --experiment ava2microg adaptation=dann seed=1",
        "fit --dry-run model=slow_r50_8x8 data.source=ava:/data/ava data.target=microg4m:/data/microg4m",
    ),
    "test": (
        "test --run runs/ava2microg/dann-seed0 --data 'microg4m:/data/microg4m?footage=real' --method roll_tta tent",
        "test --checkpoint SLOW_8x8_R50.pkl --model slow_r50_8x8 --data synthetic:microgravity --output slow",
    ),
    "predict": (
        "predict --run runs/ava2microg/dann-seed0 --video station.mp4 --person-detector yolox_s.onnx --output found",
        "predict --run runs/ava2microg/dann-seed0 --video 0 --person-detector yolox_s.onnx --output live",
    ),
    "ingest": (
        "ingest films/ --detector yolox_s.onnx --domain simulated --output new_clips",
        "ingest films/ --labels annotations.zip --output new_clips",
    ),
    "checkpoint": (
        "checkpoint SLOW_8x8_R50.pkl",
        "checkpoint X3D_S.pyth --model x3d_s_13x6 --num-classes 80",
    ),
    "export": (
        "export --run runs/ava2microg/dann-seed0 --to exported",
        "export --run runs/ava2microg/dann-seed0 --variant source_only --to exported --onnx",
    ),
    "evaluate": (
        "evaluate --detections D.csv.gz --ground-truth G.csv --protocol published",
        "evaluate --detections D.csv.gz --ground-truth G.csv --by group --ci",
    ),
    "text-eval": (
        "text-eval --task caption --predictions captions.json --references vqa_and_captioning.json",
        "text-eval --task vqa --references vqa_and_captioning.json --baselines --by qtype",
    ),
    "report": (
        "report runs/ava2microg/dann-seed0",
        "report runs/ava2microg/dann-seed0 runs/ava2microg/adabn-seed0",
    ),
    "temporal-window": (
        "temporal-window --sweep temporal_window",
        "temporal-window runs/temporal_window --output windows.html",
    ),
    "sweep": (
        "sweep dann --trials 20 --workers 2",
        "sweep temporal_window model=x3d_s_13x6 training.epochs=2",
    ),
    "compare": (
        "compare runs/dann runs/adabn --labels DANN AdaBN --format markdown",
        "compare --detections A.csv.gz B.csv.gz --ground-truth G.csv --metric f1_macro",
    ),
    "roll-response": (
        "roll-response --run runs/ava2microg/upright --angles 12",
        "roll-response --run runs/ava2microg/a runs/ava2microg/b --labels upright rolled --output pictures",
    ),
    "audit": (
        "audit --data microg4m:/data/microg4m",
        "audit --data 'ava:/data/ava?scheme=by-source' --tables-only --html audit.html",
    ),
    "split": (
        "split --data microg4m:/data/microg4m --scheme by-source --out split.csv",
        "split --data microg4m:/data/microg4m --scheme by-source-kfold --fold 0 --folds 5",
    ),
    "prepare": (
        "prepare --from microg4m-release:/data/release --to /data/microg4m",
        "prepare --from microg4m-release:/data/release --to /data/microg4m --scheme published --jobs 4",
    ),
    "weightless": (
        "weightless --data jhmdb:data/jhmdb --to data/jhmdb_rolled",
        "weightless --data jhmdb:data/jhmdb --to data/jhmdb_floating --mode floating --backgrounds walls --people 2",
    ),
    "fuse": (
        "fuse --detections A.csv.gz B.csv.gz --output fused.csv.gz",
        "fuse --detections A.csv B.csv --fit-detections VA.csv VB.csv --fit-ground-truth V.csv --output fused.csv",
    ),
    "list": (
        "list keys 'training.*'",
        "list models 'slow*' --json",
    ),
    "config": (
        "config --experiment ava2microg adaptation=dann training.epochs=5 > mine.yaml",
        "config --json-schema > experiment.schema.json",
    ),
    "completion": (
        "completion bash >> ~/.bashrc",
        "completion fish > ~/.config/fish/completions/microg_da.fish",
    ),
}
"""Two examples for each command, without ``python -m microg_da``."""


class HelpFormatter(argparse.HelpFormatter):
    """Shows defaults, and keeps the lines of the examples."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        # 0 equals False, but is a default to show.
        if (
            default is None
            or default is False
            or default in ("", argparse.SUPPRESS)
            or default == []
            or "default" in text
        ):
            return text
        # Some texts end with the bare default in brackets.
        return text.removesuffix(f" ({default})") + " (default: %(default)s)"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            paragraph if "\n" in paragraph else super(HelpFormatter, self)._fill_text(paragraph, width, indent)
            for paragraph in paragraphs
        )


def with_examples(command: str, epilog: str | None) -> str:
    """Return the text below the options of a command: its epilog and its examples."""
    lines = "\n".join(f"  python -m microg_da {example}" for example in EXAMPLES[command])
    # argparse formats help with `%`, which an example may contain.
    examples = f"examples:\n{lines}".replace("%", "%%")
    return examples if epilog is None else f"{epilog}\n\n{examples}"
