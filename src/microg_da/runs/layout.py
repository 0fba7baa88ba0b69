"""Paths of the files of a run."""

from __future__ import annotations

from pathlib import Path

from microg_da.types import Domain, Stage, Variant


class RunFolder:
    """The names of the files in one folder, ``runs/<experiment>/<name>/``.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def record_file(self) -> Path:
        """The record of the run: :class:`~microg_da.runs.record.RunRecord`."""
        return self.path / "run.json"

    @property
    def results_file(self) -> Path:
        """The scores: :class:`~microg_da.runs.results.RunResults`."""
        return self.path / "results.json"

    @property
    def results_csv(self) -> Path:
        """The scores as a table, for other programs."""
        return self.path / "results.csv"

    @property
    def per_class_csv(self) -> Path:
        """The scores of every class as a table."""
        return self.path / "per_class.csv"

    @property
    def skipped_csv(self) -> Path:
        """The clips that could not be read."""
        return self.path / "skipped.csv"

    @property
    def environment_file(self) -> Path:
        """Versions and machine."""
        return self.path / "environment.json"

    @property
    def report_file(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def metrics_folder(self) -> Path:
        """Logs of the stages, a folder each."""
        return self.path / "metrics"

    def metrics_file(self, stage: str) -> Path:
        """Log of a stage."""
        return self.metrics_folder / stage / "metrics.csv"

    @property
    def tensorboard_folder(self) -> Path:
        """TensorBoard's files."""
        return self.path / "tensorboard"

    @property
    def examples_file(self) -> Path:
        """The annotated keyframes; their pictures are in the same folder."""
        return self.path / "examples" / "examples.json"

    @property
    def example_ups_file(self) -> Path:
        """The estimated up of the people in the examples."""
        return self.path / "examples" / "ups.json"

    @property
    def roll_response_folder(self) -> Path:
        """Measurements of `roll-response`."""
        return self.path / "roll_response"

    def stage_folder(self, stage: Stage) -> Path:
        """Folder of the checkpoints of a stage."""
        return self.path / "checkpoints" / stage

    def stage_file(self, stage: Stage) -> Path:
        """How long a finished stage trained, and how its model was selected."""
        return self.stage_folder(stage) / "stage.json"

    def detector_file(self, stage: Stage) -> Path:
        """The finished detector of a stage; there only if the stage is done."""
        return self.stage_folder(stage) / "detector.pt"

    def method_file(self, stage: Stage) -> Path:
        """State of the stage's method in addition to the detector, e.g. statistics for test time."""
        return self.stage_folder(stage) / "method.pt"

    def detections_file(self, variant: Variant, domain: Domain) -> Path:
        """The detections of one variant on one domain's test split."""
        return self.path / "detections" / f"{variant}_{domain}.csv.gz"

    def features_file(self, variant: Variant, domain: Domain) -> Path:
        """RoI features of some people of one domain's test split, as one variant computes them."""
        return self.path / "features" / f"{variant}_{domain}.npz"

    def ground_truth_file(self, domain: Domain) -> Path:
        """The annotations of one domain's test split."""
        return self.path / "ground_truth" / f"{domain}.csv"
