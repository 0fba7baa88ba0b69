"""Weight files are told by their content, and none of them runs anything."""

from __future__ import annotations

import os
import pickle
import re
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from microg_da.errors import InputError
from microg_da.models.weight_files import read_weights
from microg_da.models.weight_kinds import weight_kind

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


def check(path):
    read = read_weights(path)
    assert read.keys() == STATE.keys()
    for name, value in STATE.items():
        torch.testing.assert_close(read[name], value)


@pytest.mark.parametrize("key", ["model_state", "state_dict", "model", None])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_checkpoints(tmp_path, key, legacy):
    content = {key: STATE, "epoch": 3, "cfg": "TRAIN: true"} if key else STATE
    torch.save(content, tmp_path / "weights.pkl", _use_new_zipfile_serialization=not legacy)
    check(tmp_path / "weights.pkl")


def test_optimizer_state_is_no_weight(tmp_path):
    content = {"model_state": STATE, "optimizer_state": {"state": {0: {"exp_avg": torch.ones(3)}}}}
    torch.save(content, tmp_path / "a.pyth")
    check(tmp_path / "a.pyth")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_caffe2_pickles(tmp_path, protocol):
    blobs = {name: value.numpy() for name, value in STATE.items()}
    content = {"blobs": blobs, "cfg": "MODEL:\n", "step": np.float64(3)}
    (tmp_path / "zoo.pyth").write_bytes(pickle.dumps(content, protocol=protocol))
    check(tmp_path / "zoo.pyth")


def test_caffe2_pickle_of_python_2(tmp_path):
    # What `cPickle.dumps({'blobs': {'b_w': numpy.arange(2, dtype='float32')}}, 2)` wrote under Python 2.7.
    written = (
        b"\x80\x02}q\x01U\x05blobsq\x02}q\x03U\x03b_wq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\n"
        b"ndarray\nq\x06K\x00\x85U\x01bq\x07\x87Rq\x08(K\x01K\x02\x85cnumpy\ndtype\nq\tU\x02f4q\nK\x00K\x01\x87Rq\x0b"
        b"(K\x03U\x01<q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89U\x08\x00\x00\x00\x00\x00\x00\x80?q\x0etbss."
    )
    (tmp_path / "zoo.pkl").write_bytes(written)
    assert read_weights(tmp_path / "zoo.pkl")["b_w"].tolist() == [0.0, 1.0]


def test_a_spoilt_type_of_a_caffe2_array_cannot_lead_numpy_astray(tmp_path):
    # One byte makes a type's state shorter; NumPy's own reconstruction ended the process.
    written = pickle.dumps({"blobs": {"b_w": np.arange(4, dtype=np.float32)}}, protocol=2)
    assert written.count(b"NNNJ") == 1
    (tmp_path / "zoo.pkl").write_bytes(written.replace(b"NNNJ", b"NbNJ"))
    assert read_weights(tmp_path / "zoo.pkl")["b_w"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_safetensors_under_another_name(tmp_path):
    save_file(STATE, tmp_path / "weights.ckpt")
    check(tmp_path / "weights.ckpt")


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_malicious_files_are_refused_and_nothing_runs(tmp_path, how):
    path, witness = tmp_path / "weights.pyth", tmp_path / "witness"
    content = {"model_state": STATE | {"x": Malicious(witness)}}
    if how == "pickle":
        path.write_bytes(pickle.dumps({"blobs": {"w": Malicious(witness)}}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(InputError, match=r"(posix|os|nt)\.system"):
        read_weights(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    "global_",
    [b"cbuiltins\neval\n", b"cnumpy\nload\n", b"cnumpy.core.multiarray\nfromstring\n", b"ccollections\nCounter\n"],
)
def test_pickles_reach_no_other_global(tmp_path, global_):
    (tmp_path / "w.pkl").write_bytes(b"\x80\x02" + global_ + b".")
    with pytest.raises(InputError, match="refused"):
        read_weights(tmp_path / "w.pkl")


def test_dotted_names_reach_no_attribute_of_an_admitted_global(tmp_path):
    # Protocol 4 resolves dotted names: numpy's `dtype.__class__` must not be reachable through `dtype`.
    body = b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93."
    (tmp_path / "w.pkl").write_bytes(body)
    with pytest.raises(InputError, match="refused"):
        read_weights(tmp_path / "w.pkl")


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.98])
def test_truncated_files_say_so(tmp_path, kind, kept):
    path = tmp_path / "weights.pyth"
    state = {"w": torch.randn(64, 64)}
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"blobs": {"w": state["w"].numpy()}}))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_weights(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>", "web page"),
        (b"<html>\r\n<head><title>403 Forbidden</title></head>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (b'{"error": "not found"}', "safetensors"),
        (b"\x00" * 4096, "safetensors"),
        (b"PK\x03\x04 something that is no archive", "damaged"),
        (b"\x80", "safetensors"),
        (pickle.dumps({"epoch": 3}), r"torch\.save"),
        (pickle.dumps([1, 2, 3]), r"torch\.save"),
        (pickle.dumps({"blobs": {"w": np.array([{}], dtype=object)}}), r"torch\.save"),
    ],
)
def test_what_is_no_weight_file_says_what_it_is(tmp_path, content, message):
    path = tmp_path / "weights.pyth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_weights(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("head", [b"", b"\x80\x02", b"PK\x03\x04", (1 << 20).to_bytes(8, "little") + b"{"])
def test_three_gigabytes_of_nothing_are_refused_at_once(tmp_path, head):
    path = tmp_path / "sparse.pyth"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(3 * 2**30)
    start = time.monotonic()
    with pytest.raises(InputError):
        read_weights(path)
    assert time.monotonic() - start < 20


def test_absent_file_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"none\.pyth"):
        read_weights(tmp_path / "none.pyth")
    with pytest.raises(InputError, match="folder"):
        read_weights(tmp_path)


def make(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"\x08\x08\x12\x07pytorch")


@pytest.mark.parametrize(
    ("files", "given", "wanted"),
    [
        (["a/epoch_1.pyth", "a/note.txt"], "a", "a/epoch_1.pyth"),
        (["run/config.yaml", "run/checkpoints/adapt/detector.pt"], "run", "run/checkpoints/adapt/detector.pt"),
        (["run/config.yaml"], "run", "no finished detector"),
        (["x/model.onnx", "x/model.safetensors"], "x/model.onnx", "x"),
        (["y/model.onnx"], "y/model.onnx", "detector.pt"),
    ],
)
def test_what_to_give_instead(tmp_path, monkeypatch, files, given, wanted):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, *files)
    with pytest.raises(InputError, match=rf" {re.escape(wanted)}\b"):
        weight_kind(given)


def test_ordered_and_numpy_scalar_content(tmp_path):
    content = OrderedDict(blobs=OrderedDict(a_w=np.ones(3, np.float32), lr=np.float32(0.1)))
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    assert list(read_weights(tmp_path / "w.pkl")) == ["a_w"]
