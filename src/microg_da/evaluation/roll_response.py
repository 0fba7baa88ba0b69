"""mAP as a function of camera roll, and the gravity bias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from microg_da.errors import InputError
from microg_da.evaluation.protocols import Scores


@dataclass(frozen=True)
class RollResponse:
    """Scores of one detector on one data set, rolled by several angles.

    Attributes:
        curves: mAP, one row for each angle (degrees, ascending from 0), one column each for ``"all"``, for every group
            and, by action id, for every class that has ground truth.
        labels: properties of the columns, indexed by column: ``kind`` (``all``, ``group`` or ``class``), ``name``,
            ``group``, ``support``.
    """

    curves: pd.DataFrame
    labels: pd.DataFrame

    @classmethod
    def of(cls, scores: Mapping[float, Scores]) -> RollResponse:
        """Combine the scores at each angle in degrees.

        Raises:
            InputError: if the reference angle 0° is missing.
        """
        if 0 not in scores:
            raise InputError("a roll response needs the reference angle 0. Include it in the angles.")
        upright = scores[0]
        groups = upright.by_group()
        classes = upright.per_class[upright.per_class["support"] > 0].set_index("action_id")
        labels = pd.concat(
            [
                pd.DataFrame({"kind": "all", "name": "all", "group": None, "support": int(classes["support"].sum())},
                             index=["all"]),
                pd.DataFrame({"kind": "group", "name": groups["group"], "group": groups["group"],
                              "support": groups["support"]}).set_index(groups["group"]),
                classes[["name", "group", "support"]].assign(kind="class"),
            ]
        )  # fmt: skip
        rows = {angle: _row(found) for angle, found in sorted(scores.items())}
        curves = pd.DataFrame.from_dict(rows, orient="index", columns=list(labels.index), dtype=float)
        return cls(curves.rename_axis(index="degrees"), labels)

    @property
    def gravity_bias(self) -> float:
        """(mAP at 0° − mean mAP over all angles) / mAP at 0°; NaN where mAP at 0° is 0 or undefined."""
        return float(self.summary()["gravity_bias"]["all"])

    @property
    def worst_angle(self) -> float:
        """The angle in degrees at which mAP is lowest; NaN if mAP is undefined."""
        return float(self.summary()["worst_angle"]["all"])

    def summary(self) -> pd.DataFrame:
        """One row for each curve: its labels, ``upright``, ``mean``, ``worst``, ``worst_angle``, ``gravity_bias``."""
        upright: pd.Series[float] = self.curves.T[0]
        mean = self.curves.mean()
        known = self.curves.columns[self.curves.notna().any()]
        return self.labels.assign(
            upright=upright,
            mean=mean,
            worst=self.curves.min(),
            worst_angle=self.curves[known].idxmin().astype(float).reindex(self.curves.columns),
            gravity_bias=((upright - mean) / upright).where(upright > 0),
        )

    def as_table(self) -> pd.DataFrame:
        """Return a table with one row per value: ``degrees, kind, action_id, name, group, support, map``."""
        long = self.curves.melt(ignore_index=False, var_name="key", value_name="map").reset_index()
        long = long.join(self.labels, on="key")
        long.insert(2, "action_id", long["key"].where(long["kind"] == "class"))
        return long[["degrees", "kind", "action_id", "name", "group", "support", "map"]]

    def as_dict(self) -> dict[str, object]:
        """Return plain numbers and strings: gravity bias, worst angle, angles, and all curves with their summaries."""
        summary = self.summary()
        return {
            "gravity_bias": self.gravity_bias,
            "worst_angle": self.worst_angle,
            "degrees": self.curves.index.tolist(),
            "curves": [
                {"key": key, **facts, "map": self.curves[key].tolist()}
                for key, facts in summary.to_dict("index").items()
            ],
        }


def _row(scores: Scores) -> list[float]:
    """The mAP of all, of the groups and of the classes, in the order of the columns."""
    classes = scores.per_class[scores.per_class["support"] > 0]
    return [scores.map, *scores.by_group()["map"], *classes["ap"]]
