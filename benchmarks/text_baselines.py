"""Effect of two choices on the blind baselines: the rule for equally near items, and final full stops.

    python benchmarks/text_baselines.py vqa_and_captioning.json [--test-ground-truth ava_test_gt.csv] [--seeds 20]

Thousands of questions are identical word for word, so there are many nearest questions. The program compares three
rules: the first question in the file, the most common answer, and a random question (mean ± standard deviation over
seeds). It needs the extra `text-sbert`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from microg_da.text.baselines import baselines, cosine_similarity, equally_near, nearest_allowed, tfidf_similarity
from microg_da.text.items import read_references
from microg_da.text.sbert import shared_embedder
from microg_da.text.scoring import PROTOCOLS, Scorer

METRICS = ("cider", "rougeL", "sbert")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("references", help="MicroG-4M's vqa_and_captioning.json")
    parser.add_argument(
        "--test-ground-truth", help="ava_test_gt.csv, to count test clips that share source videos with other clips"
    )
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    console = Console(width=120)
    answers = read_references(args.references, "vqa").table
    captions = read_references(args.references, "caption").table
    unanswered = int((~answers["answerable"]).sum())
    console.print(f"“Not mentioned”: {unanswered:,} of {len(answers):,} answers ({unanswered / len(answers):.1%})")
    if args.test_ground_truth:
        console.print(shared_sources(args.references, args.test_ground_truth))
    console.print(full_stops(answers))
    console.print(ties(answers, captions, args.seeds))


def shared_sources(references: str, ground_truth: str) -> str:
    captioned = set(read_references(references, "vqa").table["video_id"])
    tested = set(pd.read_csv(ground_truth, header=None)[0]) & captioned
    elsewhere = {source_of(clip) for clip in captioned - tested}
    shared = sum(source_of(clip) in elsewhere for clip in tested)
    return f"captioned test clips whose source video has captioned clips outside the test set: {shared}/{len(tested)}"


def source_of(clip: str) -> str:
    return clip.rpartition("_")[0]


def full_stops(answers: pd.DataFrame) -> Table:
    """Score TF-IDF without the source, with and without final full stops."""
    questions, texts = answers["question"].tolist(), answers["text"].to_numpy(object)
    said = nearest_allowed(answers, texts, tfidf_similarity(questions), np.inf)
    table = Table("protocol", "CIDEr", "without final full stops", title="TF-IDF, source excluded")
    for protocol in PROTOCOLS:
        scorer = Scorer(answers, ["cider"], protocol)
        values = [scorer.score(x).overall["cider"] for x in (said, [text.rstrip().rstrip(".") for text in said])]
        table.add_row(protocol, *(f"{value:.1f}" for value in values))
    return table


def ties(answers: pd.DataFrame, captions: pd.DataFrame, seeds: int) -> Table:
    table = Table("system", "metric", "first", "most common", "random", title="Rules for equally near items")
    texts, questions = answers["text"].to_numpy(object), answers["question"].tolist()
    scorer = Scorer(answers, METRICS, "released")
    for name, radius, similarity in (
        ("TF-IDF, source left out", np.inf, tfidf_similarity(questions)),
        ("MiniLM, clip left out", 0.0, cosine_similarity(shared_embedder()(questions))),
    ):
        near = equally_near(answers, similarity, {name: radius})[name]
        add_rows(table, scorer, f"{name} ({share_of_ties(near):.0%} tied)", [texts[found] for found in near], seeds)
    # The second list has reversed time: of two equally near clips, the later clip is selected.
    nearest = [in_time(captions), in_time(captions.assign(number=-captions["number"]))]
    pairs = [np.array(sorted(set(pair), key=pair.index), object) for pair in zip(*nearest, strict=True)]
    name = f"nearest caption in time ({share_of_ties(pairs):.0%} tied)"
    add_rows(table, Scorer(captions, METRICS, "released"), name, pairs, seeds)
    return table


def share_of_ties(choices: Sequence[np.ndarray]) -> float:
    return float(np.mean([len(choice) > 1 for choice in choices]))


def in_time(captions: pd.DataFrame) -> list[str]:
    return next(one.texts for one in baselines(captions, "caption") if one.name.startswith("nearest"))


def add_rows(table: Table, scorer: Scorer, name: str, choices: Sequence[np.ndarray], seeds: int) -> None:
    def score(rule: Callable[[np.ndarray], str]) -> dict[str, float]:
        return scorer.score([rule(choice) if len(choice) else "" for choice in choices]).overall

    first = score(lambda choice: choice[0])
    commonest = score(lambda choice: Counter(choice[::-1]).most_common(1)[0][0])
    drawn = [score(np.random.default_rng(seed).choice) for seed in range(seeds)]
    for metric in METRICS:
        values = np.array([one[metric] for one in drawn])
        spread = f"{values.mean():.1f} ± {values.std(ddof=1):.2f}"
        table.add_row(name, metric, f"{first[metric]:.1f}", f"{commonest[metric]:.1f}", spread)


if __name__ == "__main__":
    main()
