"""`fit`: train on source, test, adapt, test again; each step leaves a file, and a resumed run does the missing ones."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import Adaptation, method_arguments
from microg_da.allocator import keep_freed_memory
from microg_da.config import AdaptationConfig, Config, TrainingConfig
from microg_da.data.annotations import write_detections
from microg_da.data.datamodule import DOMAINS, Domain, DomainDatasets, StageData
from microg_da.errors import InputError
from microg_da.files import replacing
from microg_da.models.cost import count_parameters
from microg_da.models.detector import ActionDetector
from microg_da.taxonomy import get_taxonomy
from microg_da.training.examples import write_examples
from microg_da.training.people_sample import PeopleSample
from microg_da.training.run import Run, embedded_notice, is_leader
from microg_da.training.stage import make_trainer, save_detector, train_stage
from microg_da.training.survival import damage, explaining_failures, stopping_cleanly
from microg_da.training.testing import score_detector, validate_detector
from microg_da.training.trackers import finish_logging
from microg_da.training.trained import build_detector, build_method, method_at_test


def fit(
    config: Config | None = None,
    *,
    resume: str | Path | None = None,
    root: str | Path = "runs",
    name: str | None = None,
    console: Console | None = None,
) -> Run:
    """Run an experiment from beginning to end, or from where it was interrupted.

    Args:
        config: the experiment; not with ``resume``.
        resume: the folder of a run to continue, with its own configuration.
        root: where run folders are made.
        name: the folder's name; by default method, seed and time.
        console: where to say what happens.

    Returns:
        The finished run; ``run.results`` holds the scores.

    Raises:
        InputError: for anything the user can put right.
    """
    if (config is None) == (resume is None):
        raise ValueError("give either a configuration or a run to resume")
    # Of several processes one speaks and writes.
    console = (console or Console(stderr=True)) if is_leader() else Console(stderr=True, quiet=True)
    keep_freed_memory()
    run = Run.plan(config, root, name) if config is not None else Run.open(resume)  # type: ignore[arg-type]
    config = run.config
    announce(config, console)
    # Whatever can be wrong with the request comes to light before a folder is made and before an hour is spent.
    _check_methods(config.adaptation)
    datasets = DomainDatasets(config)
    datasets.open_for_fit()
    if resume is None:
        run.create()
    console.print(f"→ {run.path}", highlight=False, soft_wrap=True)
    with run.recording_failure(), stopping_cleanly(run.path), explaining_failures(run.path):
        Experiment(run, datasets, console).complete()
    return run


def announce(config: Config, console: Console) -> None:
    """Say what is about to run; the first line tells whether the data is the embedded one."""
    if notice := embedded_notice(config):
        console.print(f"[yellow]note[/yellow] {notice}", highlight=False, soft_wrap=True)
    console.print(
        f"[bold]{config.experiment}[/bold] {config.data.source} → {config.data.target}, model {config.model.name}, "
        f"adaptation {config.adaptation.name}, selection {config.selection}"
        + (" [red bold]oracle[/red bold]" if config.uses_target_labels else "")
        + f", seed {config.seed}",
        highlight=False,
        soft_wrap=True,
    )


class Experiment:
    """The steps of a run, each done once.

    Args:
        run: the folder.
        datasets: the data of both domains.
        console: where to say what happens.
    """

    def __init__(self, run: Run, datasets: DomainDatasets, console: Console) -> None:
        self.run = run
        self.config = run.config
        self.datasets = datasets
        self.console = console

    def complete(self) -> None:
        """Do every step that the folder does not hold yet."""
        facts = self.datasets.facts()
        self.run.update(status="running", **facts)
        for warning in facts["warnings"]:
            self._say(f"[yellow]note[/yellow] {warning}")
        detector, seconds = self._stage("source", self._train_source)
        self.run.update(model=self._describe(detector))
        self._warn_of_weights(detector)
        self._test("source_only", "source_only", detector, seconds)
        if self.config.bounds:
            # Before the adaptation only in the order of work: nothing of it is visible to what follows.
            bound, seconds = self._stage("target_supervised", lambda: self._train_bound(detector))
            self._test("target_supervised", "target_supervised", bound, seconds)
            self.datasets.release("target", "train")
        if self.config.adaptation.name != "source_only":
            # Whatever a method draws at first must not depend on the stages before, which a resumed run skips.
            pl.seed_everything(self.config.seed, workers=True, verbose=False)
            method = method_at_test(self.config, detector, self._class_rates())
            adapted, seconds = self._stage("adapt", lambda: self._adapt(detector, method), method)
            self._test("adapted", method_label(self.config), adapted, seconds, method)
        if is_leader():
            write_examples(self.run, self.datasets)
        self._list_skipped()
        self._warn_of_collapse()
        finish_logging(self.run)
        self.run.update(status="finished", peak_memory_mib=round(peak_memory_mib()))

    # ----------------------------------------------------------------------------------------------------- stages

    def _stage(self, stage: str, train: Any, method: Adaptation | None = None) -> tuple[ActionDetector, float]:
        """The finished detector of a stage, trained now or read back; ``method`` gets what it has learnt."""
        file = self.run.detector_file(stage)
        if self._is_done(stage, method):
            self.console.print(f"[dim]{stage}: done before, read from {file}[/dim]")
            detector = self._new_detector(stage)
            detector.load_state_dict(torch.load(file, map_location="cpu", weights_only=True)["state_dict"])
            if method is not None:
                method.load_state_dict(torch.load(self.run.method_file(stage), map_location="cpu", weights_only=True))
            return detector, float(self.run.stage_seconds(stage))
        pl.seed_everything(self.config.seed, workers=True, verbose=False)
        detector, seconds = train()
        save_detector(self.run, stage, detector, seconds, method)
        return detector, seconds

    def _is_done(self, stage: str, method: Adaptation | None) -> bool:
        """Whether the files of a finished stage are there and sound; damaged ones are made again from a checkpoint."""
        for file in (self.run.detector_file(stage), *([self.run.method_file(stage)] if method is not None else [])):
            problem = damage(file) if file.exists() else "missing"
            if problem is not None:
                if file.exists():
                    self._say(f"[yellow]note[/yellow] {file} is damaged ({problem}): made again from its checkpoint")
                return False
        return True

    def _train_source(self) -> tuple[ActionDetector, float]:
        detector = self._new_detector("source")
        if self.config.checkpoint is not None:
            self._say(f"source model from {self.config.checkpoint}")
            _load_source_model(detector, self.config)
            return detector, 0.0
        self._say("train on source")
        data = self._stage_data(labelled="source", unlabelled=None)
        return detector, self._train("source", detector, self._plain(detector), data, self.config.training)

    def _train_bound(self, source_model: ActionDetector) -> tuple[ActionDetector, float]:
        self._say("train the target-supervised bound (uses target labels)")
        detector = self._new_detector("target_supervised")
        settings = self.config.target_supervised
        if settings.start == "source":
            detector.load_state_dict(source_model.state_dict())
        data = self._stage_data(labelled="target", unlabelled=None)
        training = replace(self.config.training, epochs=settings.epochs or self.config.training.epochs)
        stage, plain = "target_supervised", self._plain(detector)
        return detector, self._train(stage, detector, plain, data, training, settings.rotation)

    def _adapt(self, source_model: ActionDetector, at_test: Adaptation) -> tuple[ActionDetector, float]:
        settings = self.config.adaptation
        self._say(f"adapt to unlabelled target clips: {method_label(self.config)}")
        detector = self._new_detector("adapt")
        detector.load_state_dict(source_model.state_dict())
        # A method that acts at test time on a model which another one trained looks at clips after that training.
        if settings.test_time is None:
            method = at_test
        else:
            method = build_method(self.config, settings.name, detector, settings.args, self._class_rates())
        data = self._adaptation_data(method)
        seconds = self._look_at_clips(detector, method, data)
        if method.trains and settings.epochs:
            training = replace(self.config.training, epochs=settings.epochs, lr=settings.lr, cycles=settings.cycles)
            seconds += self._train("adapt", detector, method, data, training, settings.rotation)
        elif method.trains:
            method.after_training(detector)
        if at_test is not method:
            at_test.take_over(method)
            seconds += self._look_at_clips(detector, at_test, data)
        return detector, seconds

    def _look_at_clips(self, detector: ActionDetector, method: Adaptation, data: StageData) -> float:
        device = make_trainer(self.run).strategy.root_device
        start = time.perf_counter()
        detector.to(device).eval()
        method.to(device).before_training(detector, *(data.clips_to_look_at(domain, device) for domain in DOMAINS))
        detector.cpu().train()
        method.cpu()
        return time.perf_counter() - start

    def _train(
        self,
        stage: str,
        detector: ActionDetector,
        adaptation: Adaptation,
        data: StageData,
        training: TrainingConfig,
        rotation: float | None = None,
    ) -> float:
        augment = self.config.augment.with_rotation(rotation)
        return train_stage(self.run, stage, detector, adaptation, data, training, augment, self.console)

    # ------------------------------------------------------------------------------------------------------- test

    def _test(
        self, row: str, name: str, detector: ActionDetector, seconds: float, adaptation: Adaptation | None = None
    ) -> None:
        """Score one detector on both test splits and write its detections."""
        if self.run.row(row) is not None:
            return
        scores: dict[str, Any] = {}
        for domain in DOMAINS:
            people = PeopleSample(self.datasets.get(domain, "test", labelled=False).annotations(), detector.feature_dim)
            metrics = score_detector(self.run, detector, self.datasets, domain, adaptation, people)
            detections = metrics.detections()
            if is_leader():
                write_detections(detections, self.run.detections_file(row, domain))
            people.write(self.run.features_file(row, domain))
            scores[domain] = metrics.scores().as_dict()
            self._say(f"  {row} on {domain} test: mAP {_percent(scores[domain]['map'])}", indent=True)
        scores["validators"], report = validate_detector(self.run, detector, self.datasets, adaptation)
        scores["collapse"] = report.as_dict(get_taxonomy(self.config.data.taxonomy).ids)
        self.run.add_row({"name": row, "method": name, "seconds": round(seconds, 2), **scores})

    # ----------------------------------------------------------------------------------------------------- pieces

    def _new_detector(self, stage: str) -> ActionDetector:
        # One seed for every stage: the bound starts from the weights that the source model started from.
        pl.seed_everything(self.config.seed, workers=True, verbose=False)
        return build_detector(self.config, self.config.model.checkpoint if stage != "adapt" else None)

    def _describe(self, detector: ActionDetector) -> dict[str, Any]:
        model = self.config.model
        counts = {
            "parameters": count_parameters(detector),
            "trainable_parameters": count_parameters(detector, trainable=True),
        }
        window = {"num_frames": model.num_frames, "sampling_rate": model.sampling_rate}
        return {"name": model.name, **counts, **window}

    def _list_skipped(self) -> None:
        skipped = self.datasets.skipped()
        if len(skipped) and is_leader():
            with replacing(self.run.path / "skipped.csv") as temporary:
                skipped.to_csv(temporary, index=False)
            self._warn(f"{len(skipped)} clips could not be read and were left out; skipped.csv lists them")

    def _warn_of_weights(self, detector: ActionDetector) -> None:
        """Say which weights of the file that the run started from went nowhere, and which are not from it."""
        from microg_da.models.checkpoints import compare

        path = self.config.checkpoint or self.config.model.checkpoint
        # A run that is resumed may have outlived the file.
        if path is not None and Path(path).exists():
            _, report = compare(detector, path)
            for remark in (*report.problems(), *report.notes, *report.warnings):
                self._warn(f"weights of {path}: {remark}")

    def _warn_of_collapse(self) -> None:
        guard = (self.run.row("adapted") or {}).get("collapse") or {}
        if guard.get("collapsed"):
            self._warn(f"the adapted detector has collapsed: {guard['reason']}")

    def _warn(self, warning: str) -> None:
        self.run.update(warnings=[*self.run.record["warnings"], warning])
        self._say(f"[yellow]{warning}[/yellow]")

    def _plain(self, detector: ActionDetector) -> Adaptation:
        return build_method(self.config, "source_only", detector, {})

    def _class_rates(self) -> tuple[float, ...] | None:
        """What the source's labels say, for methods that may see them."""
        uses_source = ADAPTATIONS.load(self.config.adaptation.name).uses_source
        return self.datasets.class_rates if uses_source else None

    def _adaptation_data(self, method: Adaptation) -> StageData:
        labelled: Domain | None = "source" if method.uses_source else None
        if method.uses_target_labels:
            return self._stage_data(labelled, also_labelled="target", observe=True)
        return self._stage_data(labelled, unlabelled="target", observe=True)

    def _stage_data(self, labelled: Domain | None, unlabelled: Domain | None = None, **options: Any) -> StageData:
        config = self.config
        # Target labels enter selection only when the user asked for an oracle, or in the bound, which is one.
        validate_on: Domain = "target" if config.selection == "oracle" or labelled == "target" else "source"
        return StageData(
            self.datasets,
            labelled=labelled,
            unlabelled=unlabelled,
            validate_on=validate_on,
            batch_size=config.training.batch_size,
            seed=config.seed,
            **options,
        )

    def _say(self, text: str, *, indent: bool = False) -> None:
        self.console.print(text if indent else f"[bold]•[/bold] {text}", highlight=False)


def method_label(config: Config) -> str:
    """The adaptation as result tables name it; rotation is told apart from what the method itself does."""
    settings = config.adaptation
    trains = ADAPTATIONS.load(settings.name).trains and settings.epochs
    rotation = f"rotation {settings.rotation:g}°" if trains and settings.rotation else None
    return " + ".join(part for part in (settings.name, rotation, settings.test_time) if part)


def _check_methods(settings: AdaptationConfig) -> None:
    """Refuse arguments that do not exist, and two methods where only one can act.

    Raises:
        InputError: naming the key.
    """
    method_arguments(settings.name, settings.args)
    if settings.test_time is None:
        return
    method_arguments(settings.test_time, settings.test_time_args, key="adaptation.test_time_args")
    first, second = (ADAPTATIONS.load(name) for name in (settings.name, settings.test_time))
    if second.trains:
        raise InputError(
            f"adaptation.test_time={settings.test_time}: this method trains, and cannot act at test time only. "
            "Choose another one, or make it adaptation.name."
        )
    if settings.name == "source_only":
        raise InputError(
            f"adaptation.test_time={settings.test_time} would act on a model that another method has trained, and "
            f"source_only is none. Say adaptation={settings.test_time}."
        )
    if first.predict is not Adaptation.predict and not first.trains:
        raise InputError(
            f"adaptation.test_time={settings.test_time} would take the place of {settings.name}, which acts at test "
            "time too. Choose one of them."
        )


def peak_memory_mib() -> float:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 1024**2


def _load_source_model(detector: ActionDetector, config: Config) -> None:
    from microg_da.models.checkpoints import load_checkpoint

    assert config.checkpoint is not None
    load_checkpoint(detector, config.checkpoint, config.model.allow_missing)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
