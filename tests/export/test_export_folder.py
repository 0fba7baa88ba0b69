"""An exported folder: what it says is true, and what reads weights reads it."""

import json

import pytest
import torch
import yaml
from safetensors import safe_open

from microg_da.cli import main
from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.export import export_run
from microg_da.models import create_detector
from microg_da.models.checkpoints import compare, load_detector
from microg_da.models.description import read_description
from microg_da.runs.detectors import load_run_detector
from microg_da.taxonomy import get_taxonomy
from microg_da.video.detector_loading import scorer_of_file


def inputs():
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (2, 3, 4, 40, 48), dtype=torch.uint8, generator=generator)
    return frames, torch.tensor([[2.0, 3, 30, 38], [8, 8, 47, 30], [0, 0, 20, 20]]), torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["model.roi_stride=published", "model.roll_pooling=c4"],
        ["model.roi_stride=24", "model.adapters=dual_path", "model.adapter_rank=2"],
    ],
)
@pytest.mark.parametrize("variant", ["source_only", "adapted"])
def test_the_folder_alone_gives_the_runs_logits(make_run, tmp_path, words, variant):
    run = make_run(*words)
    made = export_run(run.path, tmp_path / "out", variant=variant)
    assert (made.variant, made.test_time_method, made.onnx) == (variant, None, None)
    wanted = load_run_detector(run.path, variant).detector(*inputs()).logits
    detector, description = load_detector(tmp_path / "out")
    assert torch.equal(detector(*inputs()).logits, wanted)
    assert description.num_frames == 4
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == detector.state_dict().keys()
    again = load_config(config=tmp_path / "out" / "config.yaml")
    assert again.model == run.config.model


def test_config_json_says_everything_that_feeding_it_takes(make_run, tmp_path):
    export_run(make_run().path, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert content["test_short_side"] == 32
    assert len(content["action_ids"]) == len(content["action_names"]) == content["num_classes"] == 50
    frames, boxes, clips = inputs()
    detector, _ = load_detector(tmp_path / "out")
    mean, std = (torch.tensor(content["normalisation"][key]).reshape(1, 3, 1, 1, 1) for key in ("mean", "std"))
    floats = (frames / 255 - mean) / std
    torch.testing.assert_close(detector(floats, boxes, clips).logits, detector(frames, boxes, clips).logits)


def test_predict_reads_the_folder_and_its_weights(make_run, tmp_path):
    run = make_run()
    export_run(run.path, tmp_path / "out")
    for path in (tmp_path / "out", tmp_path / "out" / "model.safetensors"):
        scorer = scorer_of_file(path)
        assert (scorer.num_frames, scorer.short_side, scorer.taxonomy.name) == (4, 32, "microg50")
        clip = torch.rand(1, 3, 4, 32, 32), torch.tensor([[4.0, 4, 28, 30]]), torch.tensor([0])
        with torch.no_grad():
            its, ours = (
                detector(*clip)
                for detector in (load_run_detector(run.path, "adapted").detector, scorer.predictor.detector)
            )
        # Normalisation is multiplied into convolutions, which rounds.
        torch.testing.assert_close(ours.logits, its.logits, rtol=0, atol=1e-4)
    with pytest.raises(InputError, match=r"r2plus1d_tiny.*x3d_s_13x6"):
        scorer_of_file(tmp_path / "out", "x3d_s_13x6")


def test_a_detector_file_outside_its_run_knows_its_stride_and_rolls(make_run, tmp_path):
    run = make_run("model.roi_stride=24", "model.roll_pooling=c4")
    moved = tmp_path / "moved.pt"
    run.detector_file("adapt").rename(moved)
    detector = scorer_of_file(moved).predictor.detector
    assert (detector.head.stride, detector.group) == (24, "c4")


def test_the_checkpoint_command_and_create_detector_take_the_folder(make_run, tmp_path, capsys):
    run = make_run("model.roi_stride=24")
    export_run(run.path, tmp_path / "out")
    assert main(["checkpoint", str(tmp_path / "out")]) == 0
    assert "fits r2plus1d_tiny" in capsys.readouterr().out
    assert create_detector("r2plus1d_tiny", checkpoint=tmp_path / "out", width=[4, 8, 8, 8]).head.stride == 24
    started = create_detector("r2plus1d_tiny", checkpoint=tmp_path / "out", roi_stride="true", width=[4, 8, 8, 8])
    _, report = compare(started, tmp_path / "out")
    assert report.fits
    # The weights fit, and still this is another detector.
    assert len(report.warnings) == 1
    assert "model.roi_stride=24" in report.warnings[0]
    assert "has 16" in report.warnings[0]


def test_a_method_that_acts_at_test_time_is_not_in_the_weights_and_that_is_said(make_run, tmp_path, capsys):
    run = make_run("adaptation.test_time=roll_tta", "adaptation.test_time_args.rolls=2")
    assert main(["export", "--run", str(run.path), "--to", str(tmp_path / "out")]) == 0
    assert "roll_tta is not exported" in capsys.readouterr().out
    assert "without roll_tta" in scorer_of_file(tmp_path / "out").name
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**Not in the weights**" in card
    metrics = front_matter(card)["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["name"] == "mAP, with roll_tta at test time (not in the weights)"
    moved = run.detector_file("adapt").rename(tmp_path / "moved.pt")
    assert "without roll_tta" in scorer_of_file(moved).name
    # The source-only detector was tested as it is.
    assert export_run(run.path, tmp_path / "source", variant="source_only").test_time_method is None
    assert "Not in the weights" not in (tmp_path / "source" / "README.md").read_text()


def test_a_teacher_that_has_handed_over_its_weights_is_in_them(make_run, tmp_path):
    run = make_run("adaptation=mean_teacher")
    assert export_run(run.path, tmp_path / "out").test_time_method is None


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_holds_the_runs_numbers_in_the_hubs_format(make_run, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    run = make_run("data.target=microg4m:/secret/place?domain=real", warnings=("two clips overlap",))
    export_run(run.path, tmp_path / "out")
    card = hub.ModelCard.load(tmp_path / "out" / "README.md")
    target = [result for result in card.data.eval_results if result.dataset_name == "microg4m"]
    assert {(result.metric_name, result.metric_value) for result in target} == {
        ("mAP", 0.375), ("F1", 0.1875), ("recall", 0.09375), ("mAP of source-only (other weights)", 0.25),
    }  # fmt: skip
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| source-only (`source_only`) | 50.0 | 25.0 | 12.5 | 6.2 | – |" in text
    assert "**Warning of the run**: two clips overlap." in text
    assert "| oracle | no |" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("words", "variant", "expected", "unexpected"),
    [
        (["selection=oracle"], "adapted", "**Oracle**", "**Bound**"),
        (["selection=oracle"], "source_only", "| oracle | **yes** |", "**Oracle**"),
        ([], "adapted", "**Embedded data**", "**Oracle**"),
    ],
)
def test_the_card_is_stamped(make_run, tmp_path, words, variant, expected, unexpected):
    export_run(make_run(*words).path, tmp_path / "out", variant=variant)
    text = (tmp_path / "out" / "README.md").read_text()
    assert expected in text
    assert unexpected not in text


def test_mistakes_end_with_status_2(make_run, tmp_path, capsys):
    run = make_run()
    words = ["export", "--run", str(run.path), "--to", str(tmp_path / "out")]
    for more, expected in [
        (["--variant", "target_supervised"], "has no detector of the variant 'target_supervised'"),
        (["--row", "adaptd"], "Did you mean 'adapted'"),
        (["--onnx-size", "64x64"], "without --onnx"),
        (["--onnx", "--onnx-size", "64"], "such as 256x341"),
        (["--to", str(run.path)], "expected a new folder"),
        (["--run", str(tmp_path)], "is not a run folder"),
    ]:
        assert main([*words, *more]) == 2
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_earlier_onnx_file_does_not_outlive_its_weights(make_run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").write_bytes(b"of other weights")
    export_run(make_run().path, tmp_path / "out")
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_a_detector_file_says_which_class_each_output_is(make_run, tmp_path):
    run = make_run()
    taxonomy = get_taxonomy("microg50")
    said = read_description(run.detector_file("source"))
    assert tuple(said["action_ids"]) == taxonomy.ids
    assert tuple(said["action_names"]) == taxonomy.names
    made = export_run(run.path, tmp_path / "out")
    for path in (run.detector_file("source"), made.path):
        _, description = load_detector(path)
        assert description.action_names[description.action_ids.index(80)] == taxonomy.label(80)


def test_files_of_older_versions_get_their_names_from_the_taxonomy(make_run, tmp_path):
    export_run(make_run().path, tmp_path / "out")
    file = tmp_path / "out" / "config.json"
    content = json.loads(file.read_text())
    del content["action_ids"], content["action_names"]
    file.write_text(json.dumps(content))
    _, description = load_detector(tmp_path / "out")
    assert description.action_names == get_taxonomy("microg50").names


def test_classes_that_have_changed_since_are_refused(make_run, tmp_path):
    export_run(make_run().path, tmp_path / "out")
    file = tmp_path / "out" / "config.json"
    content = json.loads(file.read_text())
    content["action_ids"][0] = 2
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"\b50 classes\b.*\bmicrog50\b"):
        load_detector(tmp_path / "out")
    file.write_text("{")
    with pytest.raises(InputError, match=r"config\.json.*JSON"):
        load_detector(tmp_path / "out")
