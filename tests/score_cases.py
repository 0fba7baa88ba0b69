"""Scores for tests that need some, and not those of a detector."""

import math

import pandas as pd

from microg_da.evaluation.protocols import Scores
from microg_da.taxonomy import get_taxonomy


def some_scores(value: float) -> Scores:
    """Scores with this mAP, made of one class; there is no AUROC."""
    taxonomy = get_taxonomy("microg50")
    known = [action == 3 for action in taxonomy.ids]
    of_class = {name: [value if here else math.nan for here in known] for name in ("ap", "f1", "recall")}
    per_class = pd.DataFrame(
        {"action_id": taxonomy.ids, "name": taxonomy.names, "group": taxonomy.groups, **of_class}
        | {"auroc": math.nan, "support": [int(here) for here in known]}
    )
    return Scores(
        map=value,
        f1_macro=value / 2,
        recall_macro=value / 4,
        auroc_macro=math.nan,
        map_min_support=math.nan,
        map_worst_ties=value,
        map_best_ties=value,
        num_keyframes=400,
        num_keyframes_without_detections=0,
        num_keyframes_without_ground_truth=0,
        num_boxes=400,
        num_detections=400,
        num_classes_with_ground_truth=1,
        num_classes_min_support=0,
        num_tied_scores=0,
        num_ignored=0,
        num_duplicates=0,
        protocol="corrected",
        score_kind="logit",
        per_class=per_class,
    )
