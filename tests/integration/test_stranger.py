"""A notebook of somebody who has read docs/api.md alone: train, test, and plug in a method and a backbone."""

from dataclasses import dataclass

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

import microg_da as mg

SMALL = [
    *("data.image_size=48", "training.batch_size=4", "model.num_frames=2", "synthetic.train_clips=8"),
    *("synthetic.val_clips=4", "synthetic.test_clips=4", "synthetic.workers=0", "training.epochs=1"),
    *("adaptation.epochs=1", "trainer.accelerator=cpu"),
]
GROUPS = [0] * 50


class Patches(mg.Backbone):
    """The stranger's network."""

    channels, stride, stages = (16,), 8, ("convolution",)

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv3d(3, 16, (1, 8, 8), (1, 8, 8))

    def forward(self, frames):
        return (self.convolution(frames).relu(),)


@dataclass
class MeanArguments:
    weight: float = 1.0


class MeanDifference(mg.DomainAdaptation):
    """The stranger's method; it keeps count of what it meets."""

    Arguments = MeanArguments

    def __init__(self, arguments, task):
        super().__init__(arguments, task)
        self.looks, self.ends = 0, 0

    def before_training(self, detector, source, target):
        self.looks += sum(batch.num_boxes for batch in target)

    def after_training(self, detector):
        self.ends += 1

    def losses(self, source, target, labels, progress):
        difference = source.features.mean(dim=0) - target.features.mean(dim=0)
        return {"mean_difference": self.arguments.weight * difference.square().sum()}


def make_trainer(tmp_path):
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **off)


def test_an_own_backbone_and_method_are_trained_and_tested(tmp_path):
    data = mg.ClipDataModule(mg.load_config("ava2microg", SMALL))
    detector = mg.ActionDetector(Patches(), num_classes=50)
    method = mg.create_adaptation(MeanDifference, {"weight": 0.5}, feature_dim=detector.feature_dim, num_classes=50)
    module = mg.DetectorModule(
        detector, method, training=mg.TrainingConfig(lr=1e-3), augment=mg.AugmentConfig(flip=0.0)
    )
    before = detector.backbone.convolution.weight.clone()
    trainer = make_trainer(tmp_path)
    trainer.fit(module, datamodule=data)
    assert not torch.equal(detector.backbone.convolution.weight, before)
    assert {"train/supervised", "train/mean_difference", "val/map"} <= trainer.callback_metrics.keys()
    target = mg.open_dataset("synthetic:microgravity?num_clips=8&workers=0", "train", image_size=48, num_frames=2)
    assert method.looks == sum(len(target[index].boxes) for index in range(len(target)))
    assert method.ends == 1

    (validated,) = trainer.validate(module, datamodule=data, verbose=False)
    assert validated["val/map"] == pytest.approx(float(trainer.callback_metrics["val/map"]))
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    predictions = trainer.predict(module, datamodule=data)

    # The same figures from the predictions, by hand.
    truth = mg.open_dataset(
        "synthetic:microgravity?num_clips=4&workers=0", "test", image_size=48, num_frames=2
    ).annotations()
    metric = mg.DetectionMetrics(truth)
    for batch, prediction in zip(data.predict_dataloader(), predictions, strict=True):
        keys = [batch.keys[clip] for clip in batch.clip_index.tolist()]
        metric.update(keys, batch.table_boxes, prediction.logits)
    assert metric.compute()["map"] == pytest.approx(tested["test/map"])
    assert mg.evaluate(metric.detections(), truth).map == pytest.approx(tested["test/map"])


@pytest.mark.parametrize("name", ["mean_teacher", "self_training"])
def test_methods_that_look_at_clips_work_with_a_plain_trainer(tmp_path, name):
    data = mg.ClipDataModule(mg.load_config("ava2microg", SMALL))
    detector = mg.create_detector("r2plus1d_micro")
    method = mg.create_adaptation(
        name, feature_dim=detector.feature_dim, num_classes=50, class_groups=GROUPS, class_rates=data.class_rates
    )
    module = mg.DetectorModule(detector, method)
    trainer = make_trainer(tmp_path)
    trainer.fit(module, datamodule=data)
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert all(torch.isfinite(weight).all() for weight in detector.parameters())


def test_labels_alone(tmp_path):
    """Without unlabelled clips a batch has the source alone."""
    data = mg.ClipDataModule(mg.load_config("ava2microg", SMALL), unlabelled=None, test_on="source")
    (batch, *_) = next(iter(data.train_dataloader()))
    assert list(batch) == ["source"]
    module = mg.DetectorModule(mg.create_detector("r2plus1d_micro"))
    trainer = make_trainer(tmp_path)
    trainer.fit(module, datamodule=data)
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    assert module.scores.domain == "source"
    assert 0 <= tested["test/map"] <= 1


def test_an_experiment_is_run_and_its_detector_predicts(tmp_path):
    run = mg.fit(mg.load_config("ava2microg", [*SMALL, "adaptation=adabn"]), root=tmp_path, console=Console(quiet=True))
    assert run.results.adapted.method == "adabn"
    detector = mg.load_detector(run.path, "source_only")
    assert not detector.training
    boxes = pd.DataFrame({"frame_stamp": [0.0], "x1": [0.1], "y1": [0.1], "x2": [0.6], "y2": [0.9]})
    from PIL import Image

    Image.new("RGB", (96, 64)).save(tmp_path / "cabin.png")
    found = mg.predict(tmp_path / "cabin.png", run.path, boxes, threshold=0, device="cpu")
    assert sorted(found.action_id) == sorted(mg.get_taxonomy("microg50").ids)
    with pytest.raises(mg.InputError, match="variant"):
        mg.load_detector(run.path, "adapt")


def test_a_detector_that_was_tested_through_a_method_says_so(tmp_path):
    words = [*SMALL, "adaptation=roll_tta", "adaptation.args.rolls=2"]
    run = mg.fit(mg.load_config("ava2microg", words), root=tmp_path, console=Console(quiet=True))
    with pytest.warns(UserWarning, match="RollTTA"):
        mg.load_detector(run.path)
    predictor = mg.load_predictor(run.path)
    assert not predictor.is_plain


def test_wrong_paths_are_named(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(mg.InputError, match=r"weights\.pt"):
        mg.load_detector(tmp_path / "weights.pt", model="r2plus1d_micro")
    with pytest.raises(mg.InputError, match="nowhere"):
        mg.load_detector(tmp_path / "nowhere")
    with pytest.raises(mg.InputError, match="variant"):
        mg.load_predictor(tmp_path / "weights.pt", "adapted")
