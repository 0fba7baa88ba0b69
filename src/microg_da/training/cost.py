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
        step_seconds: seconds of one step with its batches; 0 in a stage that does not train.
        steps: number of steps in an epoch.
        validation_seconds: seconds between two epochs, on average: validation and reading of clips by the method.
        epochs: number of epochs.
        once_seconds: seconds in which the method reads clips before training.
        test_seconds: seconds of the test and validation passes of both domains with the finished detector.
        peak_memory_mib: peak memory so far, of the GPU if there is one, else of the process.
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
        """Seconds of one epoch with its validation."""
        return self.steps * self.step_seconds + self.validation_seconds

    @property
    def seconds(self) -> float:
        """Seconds of the whole stage and its tests."""
        return self.once_seconds + self.epochs * self.epoch_seconds + self.test_seconds


@dataclass(frozen=True)
class RunCost:
    """Estimated cost of a run.

    Attributes:
        parameters: number of parameters of the detector.
        trainable_parameters: number of parameters that training changes.
        num_frames: T of the window.
        sampling_rate: τ of the window.
        clips: the number of clips of each domain and split.
        device: the device of the measured steps.
        processes: number of processes that share the clips of an epoch.
        stages: the stages in their order.
        drawing_seconds: seconds to draw the embedded clips that are not in a cache.
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
        """Seconds of the whole run."""
        return self.drawing_seconds + sum(stage.seconds for stage in self.stages)

    def print(self, console: Console) -> None:
        """Print the facts, one line for each stage, and the total."""
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
        for title in ("s/step", "steps", "epoch", "epochs", "before", "tests", "total"):
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
        drawing = f", of which {duration(self.drawing_seconds)} for drawing clips" if self.drawing_seconds else ""
        console.print(f"the whole run: about {duration(self.seconds)}{drawing}", highlight=False, soft_wrap=True)
