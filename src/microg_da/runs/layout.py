"""Paths of the files of a run."""

from __future__ import annotations

from pathlib import Path

from microg_da.types import Domain, Stage, Variant


class RunFolder:
    """Paths of the files in one folder, ``runs/<experiment>/<name>/``.

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
        """The report page."""
        return self.path / "report.html"

    @property
    def metrics_folder(self) -> Path:
        """Logs of the stages, with one folder for each stage."""
        return self.path / "metrics"

    def metrics_file(self, stage: str) -> Path:
        """Return the log of a stage."""
        return self.metrics_folder / stage / "metrics.csv"

    @property
    def tensorboard_folder(self) -> Path:
        """Files of TensorBoard."""
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
        """Return the folder of the checkpoints of a stage."""
        return self.path / "checkpoints" / stage

    def stage_file(self, stage: Stage) -> Path:
        """Return the file with the training time and the selection rule of a finished stage."""
        return self.stage_folder(stage) / "stage.json"

    def detector_file(self, stage: Stage) -> Path:
        """Return the file of the finished detector of a stage, which exists only if the stage is finished."""
        return self.stage_folder(stage) / "detector.pt"

    def method_file(self, stage: Stage) -> Path:
        """Return the file with the state of the stage's method, e.g. statistics for test time."""
        return self.stage_folder(stage) / "method.pt"

    def detections_file(self, variant: Variant, domain: Domain) -> Path:
        """Return the file of the detections of one variant on one domain's test split."""
        return self.path / "detections" / f"{variant}_{domain}.csv.gz"

    def features_file(self, variant: Variant, domain: Domain) -> Path:
        """Return the file of RoI features of one variant, for a sample of people of one domain's test split."""
        return self.path / "features" / f"{variant}_{domain}.npz"

    def ground_truth_file(self, domain: Domain) -> Path:
        """Return the file of the annotations of one domain's test split."""
        return self.path / "ground_truth" / f"{domain}.csv"
