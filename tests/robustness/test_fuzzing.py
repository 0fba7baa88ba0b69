"""Whatever bytes a file holds: a reader reads them or raises InputError, and nothing else ever.

A small fixed set of inputs in the suite; ``make fuzz N=10000`` draws so many for every reader (docs/robustness.md).
"""

import os
import pickle
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from score_cases import some_scores

from microg_da.config import load_config
from microg_da.config.experiments import find_experiment, find_sweep
from microg_da.data import annotations, ava, frames
from microg_da.data.audit import audit
from microg_da.data.sources import read_dataset_files
from microg_da.data.splits import make_split, read_split, write_split
from microg_da.errors import InputError
from microg_da.models.weight_files import read_weights
from microg_da.reporting.analysis import RunAnalysis
from microg_da.runs.folder import Run
from microg_da.runs.results import VariantResult
from microg_da.sweeps.file import read_sweep
from microg_da.sweeps.study import make_sampler
from microg_da.sweeps.worker import total_trials

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))
fuzz = settings(
    max_examples=EXAMPLES or 15,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # shrinking costs more than it tells: what failed is printed as it is
)

ROWS = b"film_001,4,0.1,0.2,0.5,0.9,12,1\nfilm_001,4,0.1,0.2,0.5,0.9,17,1\nrec_002,5,0.3,0.1,0.6,0.8,80,2\n"
SCORED = b"film_001,4,0.1,0.2,0.5,0.9,12,-1.25\nrec_002,5,0.3,0.1,0.6,0.8,80,2e-3\n"
HEADER = b"video_id,frame_stamp,xmin,ymin,xmax,ymax,action_id,person_id\n"
PIECES = [
    *(b"nan", b"inf", b"-1", b"1e309", b"0x1", b"9" * 400, b"1_0", b"", b" ", b",", b",,", b'"', b"'", b"\n", b"\r", b"\t"),
    *(b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", "é²٣".encode(), b"\x1f\x8b", b"#", b":", b": ", b"- ", b"{", b"}", b"[", b"]"),
    *(b"null", b"true", b"~", b"*a", b"&a ", b"!!python/object:os.system ", b"${", b"${a}", b"${oc.env:HOME}", b"<<: ", b"???"),
    *(b"0x_", b"!!int ", b"!!bool ", b"!!binary aGk= ", b"9" * 5000, b"[" * 500, b'{"a":' * 1100, b"e9", b'"\\ud800"'),
    *(b"../../x", b"/etc/passwd", b"film_001", b"base: ", b"model: ", b"-", b".", b"=", b"--", b"1.5", b"[1, 2]", b"2024-01-01"),
]  # fmt: skip


@st.composite
def mutated(draw, seeds):
    """A valid input with a few pieces cut out, overwritten or put in; now and then nothing but noise."""
    data = bytearray(draw(st.sampled_from(seeds)))
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=300))
    piece = st.one_of(st.sampled_from(PIECES), st.binary(min_size=1, max_size=4))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.one_of(st.just(0), st.integers(0, 8), st.integers(0, max(1, len(data))))))
        data[start:end] = draw(st.one_of(st.just(b""), piece, st.just(bytes(data[start:end]) * 2)))
    return bytes(data)


def reads_or_refuses(read, *arguments):
    try:
        read(*arguments)
    except InputError as error:
        assert str(error).strip()
        assert "Traceback" not in str(error)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Writes bytes to one and the same file."""
    folder = tmp_path_factory.mktemp("fuzz")

    def write(data: bytes, name: str = "input") -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return write


TABLES = {
    "read_annotations": (annotations.read_annotations, [ROWS, HEADER + ROWS]),
    "read_detections": (annotations.read_detections, [SCORED, HEADER.replace(b"person_id", b"score") + SCORED]),
    "read_boxes": (annotations.read_boxes, [ROWS, b"film,0.5,0.1,0.2,0.5,0.9\n", b"film,3,0.1,0.2,0.5,0.9,7\n"]),
    "read_actions": (annotations.read_actions, [b"video_id,movie_or_real,person_id,action\nf_1,m,0,12\nr_2,r,1,80\n"]),
    "read_person_boxes": (
        annotations.read_person_boxes,
        [b"video_id,frame_id,person_id,xmin,ymin,xmax,ymax\nf_1,3,0,10,20.5,300,400\n"],
    ),
    "read_keyframes": (annotations.read_keyframes, [b"film,0902\nfilm,0903\n"]),
    "read_predicted_boxes": (ava._read_boxes, [b"film,902,0.1,0.2,0.5,0.9,,0.97\nfilm,903,0,0,1.1,1,,0.5\n"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(file, name):
    read, seeds = TABLES[name]

    @fuzz
    @given(mutated(seeds))
    def check(data):
        reads_or_refuses(read, file(data, "table.csv"))

    check()


def test_a_tree_of_tables_that_can_be_read_can_be_audited(tmp_path):
    @fuzz
    @given(mutated([ROWS * 3, HEADER + ROWS]))
    def check(data):
        (tmp_path / "train.csv").write_bytes(data)

        def read():
            tree, _ = read_dataset_files(f"ava:{tmp_path}", check_boxes=False)
            audit(tree, make_split("by-source", tree.annotations, sources=tree.sources))

        reads_or_refuses(read)

    check()


EXPERIMENT = find_experiment("ava2microg").read_bytes()


def test_experiments(file):
    @fuzz
    @given(mutated([EXPERIMENT, b"base: ava2microg\nmodel:\n  name: r2plus1d_tiny\ntraining: {epochs: 3}\n"]))
    def check(data):
        reads_or_refuses(load_config, str(file(data, "experiment.yaml")))

    check()


@pytest.mark.parametrize("name", ["x" * 500, "x" * 500 + "/y.yaml", "x/" * 5000 + "y"])
def test_an_experiment_that_names_a_base_of_any_length(file, name):
    with pytest.raises(InputError, match=r"\bexperiment\b"):
        load_config(str(file(f"base: {name}".encode(), "experiment.yaml")))


WORDS = [b"training.epochs=3", b"--seed=1", b"augment.scale=[0.9,1.1]", b"adaptation=dann", b"adaptation.args.weight=1"]


def test_overrides():
    @fuzz
    @given(st.lists(mutated([*WORDS, b'{"model": {"num_frames": 4}}', b"--model.name"]), min_size=1, max_size=3))
    def check(words):
        # What a shell hands over is text, with bytes that are none as surrogates.
        reads_or_refuses(load_config, "ava2microg", [os.fsdecode(word) for word in words])

    check()


SEARCH = b"""method: bayes
metric: {name: adapt-val/map, goal: maximize, target: 0.9}
run_cap: 20
early_terminate: {type: hyperband, max_iter: 27, s: 2}
parameters:
  adaptation: {parameters: {name: {value: dann}, args: {parameters: {weight: {distribution: q_log_normal, q: 0.25}}}}}
  adaptation.lr: {distribution: log_uniform, min: -7, max: -5}
  augment.flip: {distribution: beta, a: 2, b: 3}
  seed: {min: 0, max: 9}
  training.momentum: {values: [0.9, 0.8], probabilities: [0.5, 0.5]}
command: ["${interpreter}", -m, microg_da, fit, --experiment, ava2microg, --overrides, "${args_json_file}"]
"""
GRID = b"""method: grid
parameters: {seed: {min: 0, max: 2}, augment.flip: {distribution: q_uniform, min: 0, max: 1, q: 0.5}}
command: ["${interpreter}", -m, microg_da, fit, "${args}"]
"""


def test_sweeps(file):
    def read(path):
        sweep = read_sweep(path)
        total_trials(sweep, None)
        sweep.suggest(optuna.create_study(sampler=make_sampler(sweep, seed=0)).ask())

    @fuzz
    @given(mutated([SEARCH, GRID, *(find_sweep(name).read_bytes() for name in ("temporal_window", "dann"))]))
    def check(data):
        reads_or_refuses(read, str(file(data, "sweep.yaml")))

    check()


def test_split_files(file, tmp_path):
    table = annotations.read_annotations(file(ROWS.replace(b"rec", b"b") + ROWS.replace(b"film", b"c"), "rows.csv"))
    valid = write_split(make_split("by-source", table), tmp_path / "split.json").read_bytes()

    @fuzz
    @given(mutated([valid]))
    def check(data):
        reads_or_refuses(read_split, file(data, "split.json"))

    check()


def weight_files(folder: Path) -> list[bytes]:
    from safetensors.torch import save

    weights = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
    torch.save({"state_dict": weights}, folder / "zip.pt")
    torch.save(weights, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    arrays = pickle.dumps({"blobs": {name: np.asarray(value) for name, value in weights.items()}}, protocol=2)
    return [save(weights), (folder / "zip.pt").read_bytes(), (folder / "legacy.pt").read_bytes(), arrays]


def test_weights(file, tmp_path):
    @fuzz
    @given(mutated(weight_files(tmp_path)))
    def check(data):
        reads_or_refuses(read_weights, file(data, "weights.bin"))

    check()


VIDEOS = {"mp4": "mpeg4", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mjpeg", "mov": "libx264"}


def small_video(path: Path, codec: str) -> bytes:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(8):
            picture = np.full((32, 32, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def test_videos(file, tmp_path):
    pytest.importorskip("av")
    valid = {suffix: small_video(tmp_path / f"valid.{suffix}", codec) for suffix, codec in VIDEOS.items()}
    from microg_da.video.reader import Video, at_rate

    def read_clip(path):
        frames.index_video.cache_clear()
        index = frames.index_video(str(path))
        list(index.decode(np.arange(len(index.order))))

    def read_video(path):
        video = Video(path)
        shown = list(video.frames())
        assert {frame.image.shape for frame in shown} <= {(*video.size, 3)}
        # However its times were spoilt: a file of a few frames is no film of days.
        assert sum(1 for _ in at_rate(shown, 30)) <= 30 * 600 * len(shown)

    @fuzz
    @given(st.sampled_from(sorted(valid)).flatmap(lambda name: st.tuples(st.just(name), mutated([valid[name]]))))
    def check(damaged):
        suffix, data = damaged
        path = file(data, f"video.{suffix}")
        reads_or_refuses(read_clip, path)
        reads_or_refuses(read_video, path)

    check()


def test_run_folders(tmp_path):
    run = Run(tmp_path, load_config("ava2microg"))
    run.create()
    run.add_result(VariantResult("source_only", "source_only", 1.0, None, some_scores(0.3)))
    valid = {
        "results.json": run.results_file.read_bytes(),
        "run.json": run.record_file.read_bytes(),
        "environment.json": b'{"python": "3.11"}',
        "config.yaml": yaml.safe_dump({"model": {"name": "x"}}).encode(),
        "metrics/source/metrics.csv": b"step,epoch,train/loss,val/map\n0,0,0.5,\n1,0,,0.25\n",
        "examples/examples.json": b'[{"domain": "target", "video_id": "x", "frame_stamp": 1, "image": "x.png", "people": []}]',
    }
    for name, content in valid.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)

    @fuzz
    @given(st.sampled_from(sorted(valid)).flatmap(lambda name: st.tuples(st.just(name), mutated([valid[name]]))))
    def check(damaged):
        name, data = damaged
        (tmp_path / name).write_bytes(data)
        reads_or_refuses(lambda: RunAnalysis.read(tmp_path).run.settings)
        (tmp_path / name).write_bytes(valid[name])

    check()
