"""Cost estimates of a run for `fit --dry-run`."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from microg_da.reporting.tables import duration
from microg_da.terminal import print_table


@dataclass(frozen=True)
class StageCost:
    """Cost of one stage of a run.

    Attributes:
        name: ``source``, ``target_supervised`` or ``adapt``.
        step_seconds: one step with its batches; 0 in a stage that does not train.
        steps: steps in an epoch.
        validation_seconds: what follows each epoch, on average.
        epochs: how many there are.
        once_seconds: what the method looks at before training.
        test_seconds: test and validation passes of both domains with the finished detector.
        peak_memory_mib: the largest memory so far: of the GPU where there is one, else of the process.
    """

    name: str
    step_seconds: float
    steps: int
    validation_seconds: float
    epochs: int
    once_seconds: float
    test_seconds: float
    peak_memory_mib: float

    @property
    def epoch_seconds(self) -> float:
        """One epoch, with its validation."""
        return self.steps * self.step_seconds + self.validation_seconds

    @property
    def seconds(self) -> float:
        """The whole stage and its tests."""
        return self.once_seconds + self.epochs * self.epoch_seconds + self.test_seconds


@dataclass(frozen=True)
class RunCost:
    """Estimated cost of a run.

    Attributes:
        parameters: of the detector.
        trainable_parameters: those that training changes.
        num_frames: T of the window.
        sampling_rate: τ of the window.
        clips: the number of clips of each domain and split.
        device: where the steps were made.
        processes: how many share the clips of an epoch.
        stages: the stages in their order.
        drawing_seconds: drawing the embedded clips that no cache holds.
        held_mib: memory of the embedded clips of the run.
    """

    parameters: int
    trainable_parameters: int
    num_frames: int
    sampling_rate: int
    clips: dict[str, int]
    device: str
    processes: int
    stages: tuple[StageCost, ...]
    drawing_seconds: float
    held_mib: float

    @property
    def seconds(self) -> float:
        """The whole run."""
        return self.drawing_seconds + sum(stage.seconds for stage in self.stages)

    def print(self, console: Console) -> None:
        """The facts, a line for each stage, and the whole run."""
        window = f"{self.num_frames} frames, {self.sampling_rate} apart"
        memory = max(stage.peak_memory_mib for stage in self.stages)
        facts = {
            "parameters": f"{self.parameters:,} ({self.trainable_parameters:,} trainable)",
            "window": window,
            "clips": ", ".join(f"{name} {count:,}" for name, count in self.clips.items()),
            "device": self.device + (f", one of {self.processes} processes" if self.processes > 1 else ""),
            "peak memory": f"{memory:,.0f} MiB measured"
            + (f"; plus {self.held_mib:,.0f} MiB of clips in memory" if self.held_mib else ""),
        }
        for name, text in facts.items():
            console.print(f"{name + ':':<13}{text}", highlight=False, soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        table.add_column("stage")
        for title in ("s/step", "steps", "epoch", "epochs", "before", "tests", "in all"):
            table.add_column(title, justify="right")
        for stage in self.stages:
            trains = stage.epochs > 0
            table.add_row(
                stage.name,
                f"{stage.step_seconds:.3g}" if trains else "–",
                f"{stage.steps:,}" if trains else "–",
                duration(stage.epoch_seconds) if trains else "–",
                f"{stage.epochs:,}",
                duration(stage.once_seconds),
                duration(stage.test_seconds),
                duration(stage.seconds),
            )
        print_table(table, console)
        drawing = f", {duration(self.drawing_seconds)} of them for drawing clips" if self.drawing_seconds else ""
        console.print(f"the whole run: about {duration(self.seconds)}{drawing}", highlight=False, soft_wrap=True)
