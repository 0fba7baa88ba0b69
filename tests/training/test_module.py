"""What a stage does with its labels, its losses and its optimiser."""

import itertools

import pandas as pd
import pytest
import pytorch_lightning as pl
import quick
import torch
from rich.console import Console
from torch import nn

from microg_da.adaptation import ADAPTATIONS
from microg_da.adaptation.base import (
    DomainAdaptation,
    NoArguments,
    Supervised,
    Task,
    TrainingMethod,
    create_adaptation,
    methods_of,
)
from microg_da.adaptation.predictor import Predictor
from microg_da.adaptation.self_training import SelfTraining as Labeller
from microg_da.config import AugmentConfig, TrainingConfig, load_config
from microg_da.data import datamodule
from microg_da.data.batches import collate_clips
from microg_da.data.datamodule import DomainDatasets, StageData
from microg_da.errors import InputError
from microg_da.inference.scoring import score_detector, split_metrics
from microg_da.inference.sinks import ScoreSink
from microg_da.models import create_detector
from microg_da.runs.detectors import method_label
from microg_da.runs.folder import Run
from microg_da.training.experiment import Experiment
from microg_da.training.module import DetectorModule
from microg_da.training.optimizer import build_optimizer
from microg_da.training.runner import run_experiment as fit
from microg_da.training.stage import adaptation_training
from microg_da.types import Clip, ClipKey, LabelledClipBatch

TINY = [
    "training.epochs=1", "adaptation.epochs=1", "training.batch_size=4", "data.image_size=48", "synthetic.train_clips=8",
    "synthetic.val_clips=4", "synthetic.test_clips=6", "synthetic.workers=0",
]  # fmt: skip
METHODS = methods_of(TrainingMethod)


def test_target_batches_carry_no_labels():
    datasets = DomainDatasets(load_config("ava2microg", TINY))
    data = StageData(datasets, labelled="source", unlabelled="target", batch_size=4)
    for batch, _, _ in itertools.islice(iter(data.train_dataloader()), 2):
        assert isinstance(batch["source"], LabelledClipBatch)
        assert not isinstance(batch["target"], LabelledClipBatch)
        assert batch["target"].domain == "target"
    for loader in (data.unaugmented_clips("target"), *data.val_dataloader()):
        assert not any(isinstance(batch, LabelledClipBatch) for batch in loader)


@pytest.fixture(scope="module")
def stage_of(tmp_path_factory):
    """What the adaptation stage of a method reads; all methods share the drawn clips."""
    datasets = DomainDatasets(load_config("ava2microg", TINY))
    experiment = Experiment(Run(tmp_path_factory.mktemp("run"), datasets.config), datasets, Console(quiet=True))
    return experiment.adaptation_data


@pytest.mark.parametrize("name", [name for name in METHODS if not ADAPTATIONS.load(name).uses_target_labels])
def test_target_labels_cannot_reach_a_training_batch(stage_of, name):
    """Of every method that is no oracle: the data has none, and a step with some is refused."""
    method = create_adaptation(name, feature_dim=2, num_classes=50)
    (batch, *_) = next(iter(stage_of(method).train_dataloader()))
    for part in batch.values():
        assert isinstance(part, LabelledClipBatch) == (part.domain == "source")
    labelled = batch["target"].with_labels(torch.ones(batch["target"].num_boxes, 50))
    module = DetectorModule(nn.Linear(1, 1), method, TrainingConfig(), AugmentConfig())
    with pytest.raises(RuntimeError, match="target labels"):
        module.training_step({**batch, "target": labelled}, 0)


def test_a_step_without_source_labels_is_refused(stage_of):
    (batch, *_) = next(iter(stage_of(Nan()).train_dataloader()))
    module = DetectorModule(nn.Linear(1, 1), Nan(), TrainingConfig(), AugmentConfig())
    with pytest.raises(RuntimeError, match="source labels"):
        module.training_step({"source": batch["source"].without_labels()}, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "training", "tables"),
    [
        (["selection=last"], set(), set()),
        (["selection=source"], set(), set()),
        (["selection=validator:source_map"], set(), set()),
        (["selection=last", "bounds=true"], {"train"}, {"val"}),
        (["selection=oracle"], set(), {"val"}),
        (["adaptation=joint"], {"train"}, set()),
    ],
)
def test_target_labels_are_opened_for_bounds_and_oracles_alone(tmp_path, monkeypatch, words, training, tables):
    """Neither a training batch nor a validator can meet what was never opened."""
    up = () if words == ["adaptation=joint"] else quick.UP
    labelled, read = set(), set()
    original = datamodule.open_source

    def spy(source, **request):
        dataset = original(source, **request)
        if source == "synthetic:microgravity":
            labelled.update({request["split"]} if request["labelled"] else ())
            annotations = dataset.annotations
            dataset.annotations = lambda: read.add(request["split"]) or annotations()
        return dataset

    monkeypatch.setattr(datamodule, "open_source", spy)
    run = fit(load_config("ava2microg", [*TINY, *words, *up]), root=tmp_path)
    assert labelled == training
    # Labels of test and validation clips come as a table; that of the test split is read to score, after training.
    assert read - {"test"} == tables
    assert run.record.oracle is (words[0] in ("selection=oracle", "adaptation=joint"))


def test_a_method_hears_how_common_a_class_is_among_source_training_people(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(Labeller, "before_epoch", lambda self, *_: heard.append(self.task.class_rates))
    monkeypatch.setattr(Labeller, "training_losses", DomainAdaptation.training_losses)
    words = ["adaptation=self_training", "adaptation.test_time=roll_tta", "adaptation.test_time_args.rolls=2"]
    config = load_config("ava2microg", [*TINY, *words])
    fit(config, root=tmp_path)
    clips = DomainDatasets(config).get("source", "train", labelled=True)
    people = torch.cat([clips[index].labels for index in range(len(clips))])
    assert len(heard) == 1
    assert torch.allclose(torch.tensor(heard[0]), people.float().mean(dim=0))
    assert sum(heard[0]) > 0


def test_self_training_goes_on_where_augmentation_drops_people(tmp_path, monkeypatch):
    people = []
    losses = Labeller.training_losses

    def spy(self, detector, source, target, progress):
        people.append((target.num_boxes, len(self.labels_of(target.people))))
        return losses(self, detector, source, target, progress)

    monkeypatch.setattr(Labeller, "training_losses", spy)
    words = ["adaptation=self_training", "adaptation.rotation=180", "augment.min_visibility=0.95"]
    config = load_config("ava2microg", [*TINY, *words, "adaptation.args.rolls=1", "augment.scale=[1.4, 1.6]"])
    fit(config, root=tmp_path)
    clips = DomainDatasets(config).get("target", "train", labelled=False)
    assert all(boxes == labels for boxes, labels in people)
    assert 0 < sum(boxes for boxes, _ in people) < sum(len(clips[index].boxes) for index in range(len(clips)))


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ("cdan", "dann", r"adaptation\.test_time=dann\b"),
        ("tent", "roll_tta", r"adaptation\.test_time=roll_tta\b.*\btent\b"),
        ("source_only", "roll_tta", r"adaptation=roll_tta\b"),
    ],
)
def test_two_methods_of_which_one_would_do_nothing_are_refused(tmp_path, first, second, named):
    config = load_config("ava2microg", [*TINY, f"adaptation={first}", f"adaptation.test_time={second}"])
    with pytest.raises(InputError, match=named):
        fit(config, root=tmp_path)
    assert not list(tmp_path.iterdir())


def batch(labels=1.0):
    boxes = torch.tensor([[1.0, 1, 7, 7]])
    frames = torch.zeros(3, 2, 8, 8, dtype=torch.uint8)
    return collate_clips(
        [Clip(frames, boxes, boxes / 8, ClipKey("clip_7", 46)).with_labels(torch.full((1, 2), labels))]
    )


class Nan(DomainAdaptation):
    def __init__(self):
        super().__init__(NoArguments(), Task(feature_dim=1, num_classes=1, class_groups=(0,)))

    def step_losses(self, *_):
        return {"supervised": torch.tensor(1.0), "domain": torch.tensor(float("nan"))}


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(monkeypatch):
    module = DetectorModule(nn.Linear(1, 1), Nan(), TrainingConfig(), AugmentConfig())
    monkeypatch.setattr(DetectorModule, "progress", 0.0)
    monkeypatch.setattr(DetectorModule, "current_epoch", 2)
    with pytest.raises(InputError, match=r"epoch 3, step 5.*domain=nan.*clip_7@46"):
        module.training_step({"source": batch()}, 4)


def test_labels_on_a_target_batch_are_a_defect_that_cannot_pass():
    module = DetectorModule(nn.Linear(1, 1), Nan(), TrainingConfig(), AugmentConfig())
    with pytest.raises(RuntimeError, match="target labels"):
        module.training_step({"source": batch(), "target": batch()}, 0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_normalisation_and_biases_are_not_decayed(name):
    network = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4))
    network[0].bias.requires_grad_(True)
    optimizer = build_optimizer(network, TrainingConfig(optimizer=name, weight_decay=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == 4
    assert [decay[id(p)] for p in network.parameters()] == [0.3, 0.0, 0.0, 0.0]


def test_frozen_parameters_are_left_out():
    network = nn.Linear(3, 3)
    network.bias.requires_grad_(False)
    optimizer = build_optimizer(network, TrainingConfig())
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]


def test_a_part_may_learn_at_a_rate_of_its_own():
    module = nn.ModuleDict({"detector": nn.Linear(3, 3), "method": nn.Linear(3, 1)})
    optimizer = build_optimizer(module, TrainingConfig(lr=1e-2), {"method": 5.0})
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in module["detector"].parameters()] == [1e-2, 1e-2]
    assert [rates[id(p)] for p in module["method"].parameters()] == pytest.approx([5e-2, 5e-2])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["adaptation=source_finetune"], ("adamw", 1e-2, 1.0)),
        (["adaptation=dann"], ("adamw", 1e-2, 0.4)),
        (["adaptation=dann", "adaptation.cycles=2"], ("adamw", 1e-2, 0.2)),
        (["adaptation=shot"], ("sgd", 1e-3, 0.4)),
        (["adaptation=shot", "adaptation.args.lr=null"], ("sgd", 1e-2, 0.4)),
        (["adaptation=pets", "adaptation.args.lr=2e-3"], ("sgd", 2e-3, 0.4)),
        (["adaptation=dru"], ("sgd", 1e-2, 0.4)),
    ],
)
def test_a_method_trains_its_stage_as_it_needs_to(words, expected):
    config = load_config("ava2microg", ["adaptation.epochs=4", "adaptation.lr=1e-2", *words])
    settings = config.adaptation
    method = create_adaptation(settings.name, settings.args, feature_dim=3, num_classes=2)
    stage = adaptation_training(config, method)
    assert (stage.epochs, stage.optimizer, stage.lr) == (4, *expected[:2])
    assert stage.warmup_epochs == pytest.approx(expected[2])


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["adaptation=dann", "adaptation.rotation=90"], "dann + rotation 90°"),
        (["adaptation=dann", "adaptation.rotation=null"], "dann"),
        (["adaptation=adabn", "adaptation.rotation=90"], "adabn"),
        (["adaptation=dann", "adaptation.rotation=90", "adaptation.epochs=0"], "dann"),
    ],
)
def test_a_label_claims_rotation_only_where_clips_were_turned(words, label):
    assert method_label(load_config("ava2microg", words)) == label


def test_what_a_data_set_skips_is_listed_in_the_run_folder(tmp_path, monkeypatch):
    from microg_da.synthetic.dataset import SyntheticDataset

    gone = pd.DataFrame([("clip_9", 46, "truncated")], columns=["video_id", "frame_stamp", "reason"])
    monkeypatch.setattr(
        SyntheticDataset, "skipped", lambda self: gone if self.spec.split == "test" else gone[:0], raising=False
    )
    run = fit(load_config("ava2microg", [*TINY, "adaptation=source_only"]), root=tmp_path)
    listed = pd.read_csv(run.path / "skipped.csv")
    assert listed[["domain", "split", "video_id", "reason"]].to_numpy().tolist() == [
        ["source", "test", "clip_9", "truncated"],
        ["target", "test", "clip_9", "truncated"],
    ]
    assert "2 clips" in run.record.warnings[0]


def test_a_data_set_hears_which_epoch_begins():
    class Listener:
        epochs = ()

        def __len__(self):
            return 3

        def set_epoch(self, epoch):
            self.epochs = (*self.epochs, epoch)

    dataset = Listener()
    sampler = datamodule.EpochSampler(dataset, num_replicas=1, rank=0, seed=5)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert dataset.epochs == (0, 1, 0)
    assert orders[0] == orders[2]


def test_a_plain_lightning_trainer_fits_validates_tests_and_predicts(tmp_path):
    config = load_config("ava2microg", TINY)
    datasets = DomainDatasets(config)
    data = StageData(datasets, batch_size=4)
    detector = create_detector("r2plus1d_tiny", num_classes=50)
    task = Task(detector.feature_dim, 50, (0,) * 50)
    module = DetectorModule(
        detector,
        Supervised(NoArguments(), task),
        TrainingConfig(epochs=1),
        AugmentConfig(),
        scores=ScoreSink(split_metrics(datasets, "source", "val"), "source"),
    )
    # Lightning's defaults, its sanity check among them, but nothing is written.
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, **off)
    trainer.fit(module, datamodule=data)
    fitted = trainer.callback_metrics["val/map"].item()
    (validated,) = trainer.validate(module, data.test_loader("source", "val"), verbose=False)
    assert validated["val/map"] == pytest.approx(fitted)

    module.scores = ScoreSink(split_metrics(datasets, "target", "test"), "target")
    expected = score_detector(Predictor(detector), datasets, "target")
    for _ in range(2):  # a second test does not count people twice
        (tested,) = trainer.test(module, data.test_loader("target"), verbose=False)
        assert tested["test/map"] == pytest.approx(expected.scores().map)
        pd.testing.assert_frame_equal(module.scores.metrics.detections(), expected.detections())

    predictions = trainer.predict(module, data.test_loader("target"))
    batches = list(data.test_loader("target"))
    assert [len(prediction.logits) for prediction in predictions] == [batch.num_boxes for batch in batches]
    with torch.no_grad():
        logits = detector.eval()(batches[0].frames, batches[0].boxes, batches[0].clip_index).logits
    torch.testing.assert_close(predictions[0].logits, logits)
    assert not list(tmp_path.iterdir())
