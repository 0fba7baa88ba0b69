"""Networks that find the pixels of people: real ONNX files whose answer is known."""

import numpy as np
import pytest
from bar_people import CLIPS, annotations, picture, write_source

from microg_da.errors import InputError
from microg_da.weightless.making import make_data_set
from microg_da.weightless.request import Request
from microg_da.weightless.segmenter import Segmenter

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def write_network(path, classes=1, sides=("height", "width"), channels=3, sharpness=200.0, person=None, sigmoid=True):
    """Finds what is not green: probability sigmoid(sharpness · (max(red, blue) - green + 0.02)), or scores of classes."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((2, channels, 1, 1), np.float32)
    weights[0, 0], weights[1, channels - 1] = sharpness, sharpness
    if channels == 3:
        weights[:, 1] = -sharpness
    nodes = [
        helper.make_node("Conv", ["pixels", "weights"], ["both"]),
        helper.make_node("ReduceMax", ["both"], ["difference"], axes=[1], keepdims=1),
        helper.make_node("Add", ["difference", "bias"], ["score"]),
    ]
    tensors = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.float32([0.02 * sharpness]), "bias"),
    ]
    if classes == 1:
        nodes.append(helper.make_node("Sigmoid" if sigmoid else "Identity", ["score"], ["output"]))
    else:
        zero = helper.make_node("Sub", ["score", "score"], ["zero"])
        column = 1 if classes == 2 else (15 if person is None else person)
        nodes += [
            zero,
            helper.make_node(
                "Concat", ["score" if c == column else "zero" for c in range(classes)], ["output"], axis=1
            ),
        ]
    shape = [1, channels, *sides]
    graph = helper.make_graph(
        nodes,
        "segmenter",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if person is not None:
        helper.set_model_props(model, {"person_class": str(person)})
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sides": (64, 96)},
        {"classes": 2},
        {"classes": 21},
        {"classes": 5, "person": 3},
    ],
)
def test_finds_the_pixels_of_a_person(tmp_path, options):
    image, mask = picture((40, 15))
    found = Segmenter(write_network(tmp_path / "net.onnx", **options))(image)
    assert found.shape == mask.shape
    assert (found & mask).sum() / (found | mask).sum() > 0.9


def test_a_data_set_floats_without_masks(tmp_path):
    earth = write_source(tmp_path / "bare", {"filmB_001": CLIPS["filmB_001"]}, masks=False)
    request = Request(mode="floating", segmenter=write_network(tmp_path / "net.onnx"))
    make_data_set(f"ava:{earth}", tmp_path / "made", request, workers=1, progress=False)
    assert len(annotations(tmp_path / "made")["train"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 4}, "inputs are"),
        ({"sigmoid": False}, "not a probability"),
        ({"classes": 5}, "5 classes"),
    ],
)
def test_another_network_is_refused(tmp_path, options, message):
    path = tmp_path / "net.onnx"
    if options.get("classes") == 5:
        write_network(path, classes=5, person=9)
    else:
        write_network(path, **options)
    with pytest.raises(InputError, match=message):
        Segmenter(path)


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"net\.onnx"):
        Segmenter(tmp_path / "net.onnx")
