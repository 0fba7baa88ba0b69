"""What a run asks for is checked before a clip is drawn, a table is read or a folder is made."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import microg_da
from microg_da.cli import main
from microg_da.config import load_config
from microg_da.errors import InputError
from microg_da.models import create_detector
from microg_da.training import preflight
from microg_da.training.advice import advice, start_advice

SMALL = ["data.image_size=32", "model.num_frames=2", "synthetic.workers=0", "trainer.accelerator=cpu"]


@pytest.fixture
def files(tmp_path):
    """Weight files of several kinds and a data set whose tables would not survive being read."""
    torch.save(create_detector("r2plus1d_micro").state_dict(), tmp_path / "micro.pt")
    torch.save(create_detector("r2plus1d_tiny").state_dict(), tmp_path / "tiny.pt")
    (tmp_path / "text.pt").write_text("these are no weights")
    (tmp_path / "empty.pt").touch()
    annotations = tmp_path / "tree" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "ava_train.csv").write_bytes(b"\xff\xfe no table")
    (tmp_path / "tree" / "frames").mkdir()
    return tmp_path


@pytest.fixture
def nothing_is_done(monkeypatch):
    """Fail where a clip is drawn or a table is read."""

    def refuse(*_, **__):
        raise AssertionError("something was drawn or read")

    for name in (
        "microg_da.synthetic.dataset.draw_clips",
        "microg_da.data.ava.read_annotations",
        "microg_da.data.microg4m.read_annotations",
        "microg_da.synthetic.cache.read",
    ):
        monkeypatch.setattr(name, refuse)


WRONG = [
    # What was asked, and what the message has to name.
    (["adaptation=dan"], ["adaptation.name", "'dan'", "'dann'"]),
    (["adaptation=dann", "adaptation.test_time=roll_ta"], ["adaptation.test_time", "'roll_tta'"]),
    (["model.name=slow_r50"], ["model.name", "slow_r50_8x8"]),
    (["selection=orakel"], ["selection", "oracle"]),
    (["selection=validator:entropie"], ["selection", "validator:entropy"]),
    (["data.taxonomy=microg5"], ["data.taxonomy", "microg50"]),
    (["data.taxonomy={files}/micro.pt"], ["data.taxonomy", "label map"]),
    (["data.source=synthetik:earth"], ["data.source", "synthetic"]),
    (["data.source=synthetic:mars"], ["data.source", "earth"]),
    (["data.target=synthetic:moon"], ["data.target", "microgravity"]),
    (["data.target=synthetic:microgravity?lok=real"], ["data.target", "lok", "look"]),
    (["data.target=synthetic:microgravity?look=film"], ["data.target", "simulated"]),
    (["data.target=synthetic:microgravity?num_clips=0"], ["data.target", "num_clips"]),
    (["data.target=synthetic:microgravity?seed=x"], ["data.target", "seed"]),
    (["data.target=ava:{files}/absent"], ["data.target", "absent"]),
    (["data.target=ava:{files}/tree?schem=published"], ["data.target", "'schem'", "'scheme'"]),
    (["data.target=ava:{files}/tree?scheme=by-sauce"], ["data.target", "by-source"]),
    (["data.target=ava:{files}/tree?scheme=by-source-kfold&fold=9"], ["data.target", "fold"]),
    (["data.target=ava:{files}/tree?boxes=found"], ["data.target", "detected"]),
    (["data.target=ava:{files}/tree?decode=video"], ["data.target", "videos/"]),
    (["data.decode=film", "data.target=ava:{files}/tree"], ["data.target", "decode"]),
    (["data.source=ava:{files}/tree?boxes=detected"], ["data.source", "boxes"]),
    (["data.target=ava:{files}/tree?boxes=detected", "bounds=true"], ["data.target", "boxes"]),
    (["adaptation.extra_source=ava:{files}/absent"], ["adaptation.extra_source", "absent", "weightless"]),
    (["adaptation.extra_source=ava:{files}/tree?boxes=detected"], ["adaptation.extra_source", "boxes"]),
    (["adaptation.extra_source=synthetic:mars"], ["adaptation.extra_source", "earth"]),
    (["data.target=synthetic:microgravity?label_shift=9"], ["data.target", "label_shift"]),
    (["data.image_size=16"], ["data.image_size", "32"]),
    (["model.num_frames=60", "model.impossible_window=refuse"], ["data.source", "model.num_frames", "90"]),
    (["checkpoint={files}/absent.pt"], ["checkpoint", "absent.pt"]),
    (["checkpoint={files}/text.pt"], ["checkpoint", "text.pt"]),
    (["checkpoint={files}/tiny.pt"], ["checkpoint", "tiny.pt", "does not fit"]),
    (["model.checkpoint={files}/absent.pt"], ["model.checkpoint", "absent.pt"]),
    (["model.checkpoint={files}/empty.pt"], ["model.checkpoint", "empty"]),
    (["model.checkpoint={files}/text.pt"], ["model.checkpoint", "text.pt"]),
    (["model.checkpoint={files}/tiny.pt"], ["model.checkpoint", "tiny.pt", "does not fit"]),
    (["model.freeze=9"], ["model.freeze"]),
    (["model.adapters=lorra"], ["model.adapters", "lora"]),
    (["model.adapters=lora", "model.adapter_rank=0"], ["model.adapter_rank"]),
    (["model.roi_stride=wide"], ["model.roi_stride"]),
    (["model.options.widht=3"], ["model.options", "widht"]),
    (["adaptation=dann", "adaptation.args.wieght=1"], ["adaptation.args", "wieght", "weight"]),
    (["trainer.precision=bf16-true"], ["trainer.precision", "bf16-mixed"]),
    (["adaptation=dann", "adaptation.args.weight=much"], ["adaptation.args.weight"]),
    (["adaptation=shot", "adaptation.args.memory=2"], ["adaptation.args", "memory"]),
    (["adaptation=roll_tta", "adaptation.args.rolls=0"], ["adaptation.args", "rolls"]),
    (["adaptation=dann", "adaptation.test_time_args.rolls=4"], ["adaptation.test_time_args", "rolls", "test_time="]),
    (["adaptation.test_time=roll_tta", "adaptation.test_time_args.rolls=0"], ["adaptation.test_time_args", "rolls"]),
    (["adaptation.test_time=roll_tta", "adaptation.test_time_args.rols=4"], ["adaptation.test_time_args", "rols"]),
    (["adaptation=dann", "adaptation.test_time=mmd"], ["adaptation.test_time", "training method"]),
    (["adaptation=source_only", "adaptation.test_time=roll_tta"], ["adaptation.test_time", "source_only"]),
    (["adaptation=tent", "adaptation.test_time=roll_tta"], ["adaptation.test_time", "tent"]),
    (["adaptation=vitta", "adaptation.args.stages=40"], ["adaptation.args", "stages"]),
    (["adaptation=vitta", "model.freeze=all"], ["adaptation.args", "frozen"]),
    (["adaptation=adabn", "model.name=mvit_v2_s_16x4"], ["adaptation.args", "batch normalisation"]),
    (["trainer.accelerator=quantum"], ["trainer.accelerator"]),
    (["trainer.devices=0"], ["trainer.devices"]),
    (["trainer.strategy=dpp"], ["trainer.strategy"]),
    (["trainer.precision=12"], ["trainer.precision"]),
]


@pytest.mark.parametrize(("words", "parts"), WRONG, ids=lambda value: " ".join(value))
def test_a_wrong_request_is_named_and_nothing_is_done(words, parts, files, tmp_path, capsys, nothing_is_done):
    words = [word.format(files=files) for word in [*SMALL, *words]]
    with pytest.raises(InputError) as caught:
        preflight.check(load_config("ava2microg", words))
    assert not [part for part in parts if part not in str(caught.value)], str(caught.value)
    assert main(["fit", "--experiment", "ava2microg", "--runs", str(tmp_path / "runs"), *words]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"microg_da: {caught.value}\n")
    assert not (tmp_path / "runs").exists()


def test_right_requests_pass(files, nothing_is_done):
    for words in (
        ["bounds=true"],
        [f"model.checkpoint={files}/micro.pt", f"checkpoint={files}/micro.pt"],
        [f"data.target=ava:{files}/tree?scheme=by-source&boxes=detected"],
        ["adaptation=adabn", "model.adapters=dual_path"],
        ["model.name=slowfast_r50_8x8", "model.roll_pooling=c4", "adaptation=vitta"],
        ["selection=validator:snd", "adaptation=mean_teacher"],
        [f"model.checkpoint={files}/tiny.pt", "model.allow_missing=['*']"],
    ):
        preflight.check(load_config("ava2microg", [*SMALL, *words]))


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_tracker_that_is_not_installed(package, monkeypatch, nothing_is_done):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"logger={package}.*pip install"):
        preflight.check(load_config("ava2microg", [*SMALL, f"logger=csv,{package}"]))


def test_a_device_that_is_not_there(monkeypatch, nothing_is_done):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=r"trainer\.accelerator=cuda"):
        preflight.check(load_config("ava2microg", [*SMALL, "trainer.accelerator=cuda"]))


def test_fit_from_python_checks_too(files, tmp_path, nothing_is_done):
    config = load_config("ava2microg", [*SMALL, f"checkpoint={files}/absent.pt"])
    with pytest.raises(InputError, match="checkpoint="):
        microg_da.fit(config, root=tmp_path / "runs")
    with pytest.raises(InputError, match=r"training\.lr"):
        microg_da.fit(replace(config, training=replace(config.training, lr=-1.0)), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_weights_are_compared_without_being_read(tmp_path, monkeypatch):
    """Of a file in PyTorch's format only the header is read: the values of the tensors may be anything."""
    path = tmp_path / "weights.pt"
    torch.save(create_detector("r2plus1d_micro").state_dict(), path)
    copied = []
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: copied.append(1))
    preflight.check(load_config("ava2microg", [*SMALL, f"model.checkpoint={path}"]))
    assert not copied
    detector = preflight._detector_without_memory(load_config("ava2microg", SMALL))
    assert {parameter.device.type for parameter in detector.parameters()} == {"meta"}


def test_a_resumed_run_may_have_outlived_its_weight_file(tmp_path):
    config = load_config("ava2microg", [*SMALL, f"model.checkpoint={tmp_path}/gone.pt"])
    preflight.check(config, resumes=True)
    with pytest.raises(InputError, match=r"gone\.pt"):
        preflight.check(config)


def test_only_what_differs_is_checked_again(monkeypatch):
    done = []
    for name in ("QUICK", "THOROUGH"):
        checks = tuple(
            (sections, lambda _, function=function: done.append(function.__name__))
            for sections, function in getattr(preflight, name)
        )
        monkeypatch.setattr(preflight, name, checks)
    first = load_config("ava2microg", SMALL)
    preflight.check(first)
    everything = list(done)
    assert len(everything) == len(set(everything)) >= 10
    done.clear()
    preflight.check(load_config("ava2microg", [*SMALL, "training.lr=0.5"]), checked=first)
    assert done == ["check_config"]
    done.clear()
    preflight.check(load_config("ava2microg", [*SMALL, "model.dropout=0.25"]), checked=first)
    assert {"check_model", "check_weights", "check_files"} <= set(done)
    assert not {"check_trainer", "check_loggers", "check_taxonomy"} & set(done)


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"seed": {"values": [0, 1]}, "trainer.strategy": {"value": "dpp"}}, "trainer.strategy"),
        ({"adaptation.name": {"values": ["dann", "tent"]}}, "adaptation.test_time"),
        ({"data.target": {"values": ["synthetic:microgravity", "ava:absent"]}}, "data.target"),
        ({"model.freeze": {"values": [0, 1, 40]}}, "model.freeze"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_sweep_checks_the_values_that_can_be_listed(parameters, key, tmp_path, capsys, nothing_is_done):
    path = tmp_path / "sweep.yaml"
    words = ["fit", "--experiment", "ava2microg", "${args}", "adaptation.test_time=roll_tta"]
    command = ["${interpreter}", "-m", "microg_da", *words]
    path.write_text(json.dumps({"method": "random", "parameters": parameters, "command": command}))
    assert main(["sweep", str(path), "--runs", str(tmp_path / "runs"), *SMALL]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"microg_da: {path}: ")
    assert key in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["data.target=synthetic:moon"],
        ["checkpoint=absent.pt"],
        ["model.checkpoint=absent.pt"],
        ["adaptation=dan"],
        ["data.target=ava:absent"],
        ["logger=wandb"],
    ],
    ids=" ".join,
)
def test_the_command_refuses_before_torch_is_imported(words, tmp_path):
    hidden = "import sys; sys.modules.update(torch=None, wandb=None); from microg_da.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "fit", "--experiment", "ava2microg", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert words[0].split("=")[0] in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_what_needs_torch_to_be_seen(files, tmp_path):
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "microg_da", "fit", "--experiment", "ava2microg", f"checkpoint={files}/tiny.pt"],
        cwd=tmp_path / "work",
        capture_output=True,
        text=True,
        env={**os.environ, "MICROG_DA_CACHE": str(tmp_path / "cache")},
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("microg_da: checkpoint")
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "work").iterdir())
    assert not (tmp_path / "cache").exists()


def test_everything_that_is_missing_is_named_at_once_and_where_it_is(tmp_path, monkeypatch, nothing_is_done):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        preflight.check(load_config("microg4m/slow_r50_8x8"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for part in ("model.checkpoint", "weights/SLOWONLY_8x8_R50.pkl", "kinetics400/SLOWONLY_8x8_R50.pkl"):
        assert part in lines[1]
    for part in ("data.source and data.target", "data/microg4m", "huggingface.co/datasets/LEI-QI-233", "reproduce.md"):
        assert part in lines[2]
    with pytest.raises(InputError, match="fit --experiment ava/x3d_s_13x6 --name source"):
        preflight.check(load_config("ava2microg/x3d_s_13x6"))


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (["data.source=microg4m:{files}/tree", "model=slow_r50_8x8"], True),
        (["data.source=microg4m:{files}/tree", "model=timm:resnet18"], True),
        (["data.source=microg4m:{files}/tree", "model=timm:resnet18", "model.options.pretrained=true"], False),
        (["data.source=microg4m:{files}/tree", "model=r2plus1d_tiny"], False),
        (["data.source=microg4m:{files}/tree", "model=slow_r50_8x8", "model.checkpoint=w.pkl"], False),
        (["data.source=microg4m:{files}/tree", "model=slow_r50_8x8", "checkpoint=w.pkl"], False),
        (["model=slow_r50_8x8"], False),
    ],
)
def test_a_large_network_from_random_weights_on_real_data_is_warned_of(words, warned, files):
    found = start_advice(load_config("ava2microg", [word.format(files=files) for word in words]))
    assert (found is not None) == warned
    if found is not None:
        assert "model.checkpoint" in found
        assert "microg4m/slow_r50_8x8" in found


@pytest.mark.parametrize(("workers", "warned"), [(0, False), (2, False), (3, True)])
def test_more_loading_processes_than_cores_are_warned_of_once_and_by_key(workers, warned, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    config = load_config("ava2microg", [f"data.num_workers={workers}"])
    assert [f"data.num_workers={workers}" in sentence for sentence in advice(config)] == [True] * warned
