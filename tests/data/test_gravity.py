"""Rolling a data set while it is read: the same clips and labels, turned, with known ups; nothing written."""

import numpy as np
import pandas as pd
import pytest
import torch
from small_trees import ROWS

from microg_da.data.annotations import read_annotations, write_annotations
from microg_da.data.masks import MaskFiles, write_masks
from microg_da.data.sources import open_source
from microg_da.errors import InputError
from microg_da.transforms.camera import CameraMotion, mask_box, view_mask
from microg_da.types import PersonKey

REQUEST = {
    "split": "train",
    "taxonomy": "microg50",
    "num_frames": 2,
    "sampling_rate": 1,
    "image_size": 24,
    "labelled": True,
    "train": False,
    "test_side": 48,
}


def open_rolled(tree, options="", **changes):
    return open_source(f"microg4m:{tree}?gravity=rolled{options}", **{**REQUEST, **changes})


def test_the_same_people_with_the_same_labels(tree):
    upright, rolled = open_source(f"microg4m:{tree}", **REQUEST), open_rolled(tree)
    assert upright.keys == rolled.keys
    for one, other in zip(upright, rolled, strict=True):
        assert one.people == other.people
        assert torch.equal(one.labels, other.labels)
        assert one.frames.shape == other.frames.shape
    columns = ["video_id", "frame_stamp", "action_id", "person_id"]
    pd.testing.assert_frame_equal(upright.annotations()[columns], rolled.annotations()[columns])


def test_ups_are_the_rolls_of_the_videos(tree):
    ups = open_rolled(tree).ups()
    assert len(ups) == 5
    by_video = {}
    for person, up in ups.items():
        assert isinstance(person, PersonKey)
        assert by_video.setdefault(person.keyframe.video_id, up) == up
    assert len(set(by_video.values())) == 3
    assert open_source(f"microg4m:{tree}", **REQUEST).ups() is None


def test_boxes_are_where_the_table_has_them(tree):
    rolled = open_rolled(tree)
    table = rolled.annotations()
    for clip in rolled:
        here = table[(table.video_id == clip.key.video_id) & (table.frame_stamp == clip.key.frame_stamp)]
        boxes = here[["x1", "y1", "x2", "y2"]].drop_duplicates().to_numpy()
        np.testing.assert_allclose(clip.table_boxes, boxes, atol=1e-6)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert ((boxes >= 0) & (boxes <= 1)).all()


def test_depends_on_the_seed_and_nothing_else(tree):
    one, same, other = (open_rolled(tree, f"&gravity_seed={seed}") for seed in (4, 4, 5))
    assert one.ups() == same.ups()
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(one, same, strict=True))
    assert all(abs(one.ups()[person] - other.ups()[person]) > 1e-3 for person in one.ups())
    assert open_rolled(tree, "&gravity_seed=4", labelled=False).ups() == one.ups()
    assert not any(hasattr(clip, name) for clip in one for name in ("up", "ups"))


def test_an_up_of_the_table_is_added_to(tree):
    path = tree / "annotations" / "ava_train.csv"
    table = read_annotations(path).assign(up=90.0)
    write_annotations(table, path)
    assert set(open_source(f"microg4m:{tree}", **REQUEST).ups().values()) == {90.0}
    ups = open_rolled(tree, "&gravity_rolls=fixed:300").ups()
    assert set(ups.values()) == {30.0}


def test_masks_give_the_boxes_where_one_person_is(tree):
    masks = np.zeros((12, 48, 64), bool)
    masks[:, 10:40, 20:24] = masks[:, 10:14, 20:50] = True
    (tree / "masks").mkdir()
    write_masks(masks, tree / "masks" / "filmA_002.npz")
    assert (MaskFiles(tree / "masks").read("filmA_002") == masks).all()
    text = ROWS.replace("filmA_002,5,0.0,0.0,1.0,1.0", f"filmA_002,5,{20 / 64},{10 / 48},{50 / 64},{40 / 48}")
    (tree / "annotations" / "ava_train.csv").write_text(text)
    table = open_rolled(tree, "&gravity_rolls=fixed:45").annotations()
    box = table.loc[table.video_id == "filmA_002", ["x1", "y1", "x2", "y2"]].to_numpy()[0] * [64, 48, 64, 48]
    turned = view_mask(masks[4], CameraMotion(45.0).matrix(0.0, (48, 64)), (48, 64))
    # The person is in the middle: the camera need not move to keep them.
    np.testing.assert_allclose(box[2:] - box[:2], np.subtract(*np.split(mask_box(turned), 2)[::-1]), atol=1.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [("&gravity_rolls=unifrom", "gravity_rolls.*'uniform'"), ("&gravity_seed=a", "gravity_seed")],
)
def test_impossible_options_are_refused(tree, options, message):
    with pytest.raises(InputError, match=message):
        open_rolled(tree, options)


def test_an_unknown_gravity_is_refused(tree):
    with pytest.raises(InputError, match=r"'roled'.*'rolled'"):
        open_source(f"microg4m:{tree}?gravity=roled", **REQUEST)


def test_named_columns_survive_writing_and_reading(tmp_path):
    rows = [("a_1", 4, 0.1, 0.1, 0.5, 0.5, 12, 0, "a film", 359.5), ("b_1", 4, 0.1, 0.1, 0.5, 0.5, 12, 0, "b", 0.0)]
    columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id", "source_video", "up"]
    table = pd.DataFrame(rows, columns=columns)
    back = read_annotations(write_annotations(table, tmp_path / "table.csv"))
    pd.testing.assert_frame_equal(back, table, check_dtype=False)


def test_an_up_that_is_no_number_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("video_id,frame_stamp,x1,y1,x2,y2,action_id,up\na_1,4,0.1,0.1,0.5,0.5,12,nan\n")
    with pytest.raises(InputError, match=r"line 2: up is 'nan'"):
        read_annotations(tmp_path / "table.csv")
