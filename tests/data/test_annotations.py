"""Readers against the real files, against tables written by hypothesis, and against every kind of wrong file."""

import gzip
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from work import calls_of

from microg_da.data.annotations import (
    read_actions,
    read_annotations,
    read_detections,
    read_keyframes,
    read_person_boxes,
    source_videos,
    write_annotations,
    write_detections,
)
from microg_da.data.source_videos import source_videos_of
from microg_da.errors import InputError
from microg_da.taxonomy import get_taxonomy

relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)

ROWS = "a_1,52,0.1,0.2,0.5,0.9,12,1\na_1,52,0.1,0.2,0.5,0.9,17,1\nb_2,52,0,0,1,1,80,3\n"


@pytest.fixture
def write(tmp_path):
    def _write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.mark.data
def test_real_tables(test_data):
    folder = test_data / "microg4m"
    actions = read_actions(folder / "actions.csv")
    assert len(actions) == 13261
    assert len(read_actions(folder / "actions.csv", duplicates="drop")) == 13240
    assert actions["domain"].value_counts().to_dict() == {"real": 9610, "simulated": 3651}
    assert actions["video_id"].nunique() == 4759
    table = read_annotations(folder / "ava_format_with_header.csv", taxonomy=get_taxonomy("microg50"))
    assert len(table) == 13251
    assert table["action_id"].nunique() == 50
    detections = read_detections(folder / "detections_test" / "X3D_L.csv.gz")
    assert len(detections) == 56850
    assert detections["score"].dtype == np.float64
    assert detections["frame_stamp"].iloc[0] == 52  # written 0052


@pytest.mark.data
def test_ava_samples_in_seconds(test_data):
    folder = test_data / "ava_samples"
    table = read_annotations(folder / "ava_sample.csv")
    assert table["frame_stamp"].tolist() == [902, 902, 902, 903, 903, 902, 902, 902]
    assert len(read_keyframes(folder / "ava_excluded_timestamps_sample.csv")) == 2
    with pytest.raises(InputError, match=r"pred\.csv\b.*line 1\b.*person_id.*detections"):
        read_annotations(folder / "pred.csv")


@pytest.mark.parametrize("rows", [100, 2000])
def test_the_work_of_reading_does_not_grow_with_the_rows(write, rows):
    path = write("".join(f"v_{row % 10},52,0.1,0.2,0.5,0.9,12,{row}\n" for row in range(rows)))
    assert calls_of(lambda: read_annotations(path)) < 1.2 * calls_of(lambda: read_annotations(write(ROWS, "few.csv")))


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        ROWS.replace("\n", "\r\n"),
        "\ufeff" + ROWS,
        ROWS.rstrip("\n"),
        ROWS.replace("\n", "\n\n"),
        ROWS.replace(",52,", ",0052,"),
        gzip.compress(ROWS.encode()),
        "video_id,frame_stamp,xmin,ymin,xmax,ymax,action_id,person_id\n" + ROWS,
        "\ufeffvideo_id,timestamp,x1,y1,x2,y2,action,person_id\r\n" + ROWS,
    ],
    ids=["plain", "crlf", "bom", "no-last-newline", "blank-lines", "zeros", "gzip", "header", "bom-header"],
)
def test_one_table_in_many_clothes(write, content):
    pd.testing.assert_frame_equal(read_annotations(write(content)), read_annotations(write(ROWS, "plain.csv")))


def test_header_columns_in_any_order(write):
    path = write("score,action_id,y2,x2,y1,x1,frame_stamp,video_id\n-1.5,12,0.9,0.8,0.2,0.1,7,v_1\n")
    assert read_detections(path).to_numpy().tolist() == [["v_1", 7, 0.1, 0.2, 0.8, 0.9, 12, -1.5]]


def test_seven_columns_number_persons_by_their_boxes(write):
    path = write("a,1,0.1,0.1,0.2,0.2,12\nb,1,0.1,0.1,0.2,0.2,12\na,1,0.3,0.3,0.4,0.4,12\na,1,0.1,0.1,0.2,0.2,80\n")
    assert read_annotations(path)["person_id"].tolist() == [0, 0, 1, 0]


def test_detections_without_score_are_certain(write):
    assert read_detections(write("a,1,0.1,0.1,0.2,0.2,12\n"))["score"].tolist() == [1.0]


def test_names_that_look_like_numbers_or_nothing_stay_text(write):
    path = write("007,1,0.1,0.1,0.2,0.2,12,0\nNA,1,0.1,0.1,0.2,0.2,12,0\n")
    assert read_annotations(path)["video_id"].tolist() == ["007", "NA"]


def test_fractional_seconds(write):
    assert read_annotations(write("a,902.5,0.1,0.1,0.2,0.2,12,0\n"))["frame_stamp"].tolist() == [902.5]


@pytest.mark.parametrize(
    ("content", "rows"), [("", 0), ("\n\n", 0), ("video_id,frame_stamp,x1,y1,x2,y2,action_id\n", 0)]
)
def test_empty_files_are_empty_tables(write, content, rows):
    assert len(read_annotations(write(content))) == rows
    assert len(read_detections(write(content))) == rows


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,1,0.1,0.1,0.2,0.2", "line 4: 6 columns, expected 8"),
        ("a,1,0.1,0.1,0.2,0.2,12,1,9", "line 4: 9 columns, expected 8"),
        ("a,1,zero,0.1,0.2,0.2,12,1", "line 4: x1 is 'zero', expected a finite number"),
        ("a,1,,0.1,0.2,0.2,12,1", "line 4: x1 is '', expected a finite number"),
        ("a,1,nan,0.1,0.2,0.2,12,1", "line 4: x1 is 'nan', expected a finite number"),
        ("a,inf,0.1,0.1,0.2,0.2,12,1", "line 4: frame_stamp is not a finite number"),
        ("a,-1,0.1,0.1,0.2,0.2,12,1", "line 4: frame_stamp is negative"),
        ("a,1,0.2,0.1,0.2,0.2,12,1", "line 4: box without area"),
        ("a,1,0.1,0.3,0.2,0.2,12,1", "line 4: box without area"),
        ("a,1,0.1,0.1,1.2,0.2,12,1", "line 4: box outside the image"),
        ("a,1,-0.1,0.1,0.2,0.2,12,1", "line 4: box outside the image"),
        ("a,1,0.1,0.1,0.2,0.2,1001,1", "line 4: action_id is not in 1…1000"),
        ("a,1,0.1,0.1,0.2,0.2,0,1", "line 4: action_id is not in 1…1000"),
        ("a,1,0.1,0.1,0.2,0.2,1.5,1", "line 4: action_id is not a whole number"),
        (",1,0.1,0.1,0.2,0.2,12,1", "line 4: video_id is empty"),
        ("a,1,0.1,0.1,0.2,0.2,12,0.5", "line 4: person_id is not a whole number"),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n"])
def test_errors_name_the_line(write, row, message, ends):
    lines = (ROWS + row).split("\n")
    path = write(ends.join(lines))
    expected = message.replace("line 4", "line 7") if ends == "\n\n" else message
    with pytest.raises(InputError) as error:
        read_annotations(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)


def test_line_numbers_count_the_header(write):
    path = write("video_id,frame_stamp,x1,y1,x2,y2,action_id,person_id\n" + ROWS + "a,1,0.1,0.1,0.2,0.2,1099,1\n")
    with pytest.raises(InputError, match=r"line 5.*action_id"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("video_id,frame_stamp,x1,y1,x2,y2,action_id,scroe", "'scroe'.*'score'"),
        ("video_id,frame_stamp,x1,y1,x2,y2,score", "'action_id'"),
        ("video_id,frame_stamp,x1,y1,x2,y2,action_id,action", "line 1.*'action_id'"),
    ],
)
def test_bad_header(write, header, message):
    with pytest.raises(InputError, match=message):
        read_detections(write(header + "\n" + ROWS))


def test_other_bad_files(write, tmp_path):
    with pytest.raises(InputError, match=r"none\.csv.*No such file"):
        read_annotations(tmp_path / "none.csv")
    with pytest.raises(InputError, match="Is a directory"):
        read_annotations(tmp_path)
    with pytest.raises(InputError, match=r"cut\.csv\.gz.*gzip"):
        read_annotations(write(gzip.compress(ROWS.encode())[:-9], "cut.csv.gz"))
    with pytest.raises(InputError, match=r"line 2.*UTF-8"):
        read_annotations(write(b"a,1,0.1,0.1,0.2,0.2,12,1\n\xff,1\n"))
    with pytest.raises(InputError, match="NUL"):
        read_annotations(write(b"a,1\0"))
    with pytest.raises(InputError, match=r"line 1.*action_id.*50.*'microg50'"):
        read_annotations(write("a,1,0.1,0.1,0.2,0.2,2,1\n"), taxonomy=get_taxonomy("microg50"))


def test_duplicates(write):
    path = write(ROWS + ROWS)
    assert len(read_annotations(path)) == 6
    assert len(read_annotations(path, duplicates="drop")) == 3
    with pytest.raises(InputError, match=r"line 4\b.*\b2 more"):
        read_annotations(path, duplicates="error")


def test_microg_pixel_boxes(write):
    path = write("video_id,frame_id,person_id,xmin,ymin,xmax,ymax\nv_1,52,1,10,20,300.5,400\n")
    assert read_person_boxes(path).to_numpy().tolist() == [["v_1", 52, 1, 10.0, 20.0, 300.5, 400.0]]
    with pytest.raises(InputError, match=r"line 1.*x1 < x2"):
        read_person_boxes(write("v_1,52,1,10,20,9,400\n"))


def test_actions_domain(write):
    path = write("video_id,movie_or_real,person_id,action\nv_1,x,1,12\n")
    with pytest.raises(InputError, match=r"line 2.*movie_or_real.*'r'.*'m'"):
        read_actions(path)


def test_source_video():
    assert source_videos(pd.Series(["SE4HsMi3KoU_359", "a_b_1", "plain"])).tolist() == ["SE4HsMi3KoU", "a_b", "plain"]


def test_writer_refuses_what_the_reader_would(tmp_path):
    table = pd.DataFrame({"video_id": ["a"], "frame_stamp": [1], "x1": [0.5], "y1": [0.1], "x2": [0.5], "y2": [0.9]})
    with pytest.raises(InputError, match=r"t\.csv.*'action_id'"):
        write_annotations(table, tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"t\.csv, row 0.*x1 < x2"):
        write_annotations(table.assign(action_id=1, person_id=1), tmp_path / "t.csv")
    assert list(tmp_path.iterdir()) == []


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=8)
low, high = st.floats(0, 0.5, exclude_max=True), st.floats(0.5, 1)
stamps = st.integers(0, 10**6) | st.floats(0, 1e6)
rows = st.tuples(names, stamps, low, low, high, high, st.integers(1, 80))


@relaxed
@given(table=st.lists(st.tuples(rows, st.integers(0, 99)), min_size=1, max_size=12), header=st.booleans())
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_annotations_round_trip(tmp_path, table, header, name):
    columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "person_id"]
    frame = pd.DataFrame([(*row, person) for row, person in table], columns=columns)
    back = read_annotations(write_annotations(frame, tmp_path / name, header=header))
    assert back.to_numpy().tolist() == frame.to_numpy().tolist()


@relaxed
@given(table=st.lists(st.tuples(rows, st.floats(allow_nan=False, allow_infinity=False)), max_size=12))
def test_detections_round_trip(tmp_path, table):
    columns = ["video_id", "frame_stamp", "x1", "y1", "x2", "y2", "action_id", "score"]
    frame = pd.DataFrame([(*row, score) for row, score in table], columns=columns)
    back = read_detections(write_detections(frame, tmp_path / "d.csv.gz"))
    assert back.to_numpy().tolist() == frame.to_numpy().tolist()


fields = st.sampled_from(["a", "0.1", "1", "12", "nan", "-3", "", " ", '"', "video_id", "1e400", "1_0", "٣", "score"])
lines = st.lists(fields, max_size=9).map(",".join)
garbage = (
    st.lists(lines, max_size=6).map("\n".join).map(str.encode) | st.binary(max_size=200) | st.text().map(str.encode)
)


@settings(relaxed, max_examples=300)
@given(content=garbage)
def test_garbage_is_read_or_refused_with_an_input_error(tmp_path, content):
    path = tmp_path / "garbage.csv"
    path.write_bytes(content)
    for reader in (read_annotations, read_detections, read_actions, read_person_boxes, read_keyframes):
        with suppress(InputError):
            assert not reader(path).isna().any().any()


class TestSourceVideo:
    HEADER = "video_id,frame_stamp,x1,y1,x2,y2,action_id,person_id,source_video\n"

    def test_a_column_of_the_header_is_kept_and_written(self, write, tmp_path):
        rows = "a_1,1,0.1,0.1,0.2,0.2,12,0,film\nb_1,1,0.1,0.1,0.2,0.2,12,0,film\n"
        table = read_annotations(write(self.HEADER + rows))
        assert table.source_video.tolist() == ["film", "film"]
        again = read_annotations(write_annotations(table, tmp_path / "again.csv"))
        assert again.source_video.tolist() == ["film", "film"]
        bare = read_annotations(write_annotations(table, tmp_path / "bare.csv", header=False))
        assert "source_video" not in bare

    def test_what_the_table_names_goes_before_the_name_of_the_clip(self):
        truth = pd.DataFrame({"video_id": ["a_1", "b_1"], "source_video": ["film", "film"]})
        seen = pd.DataFrame({"video_id": ["b_1", "c_1", "a_1"]})
        assert source_videos_of(seen, truth).tolist() == ["film", "c", "film"]
        assert source_videos_of(seen, seen).tolist() == ["b", "c", "a"]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ("a,1,0.1,0.1,0.2,0.2,12,0,\n", "line 2: source_video is empty"),
            ("a,1,0.1,0.1,0.2,0.2,12,0,x\na,2,0.1,0.1,0.2,0.2,12,0,y\n", "line 3: source_video"),
        ],
    )
    def test_values_that_cannot_be(self, write, rows: str, message: str):
        with pytest.raises(InputError, match=message):
            read_annotations(write(self.HEADER + rows))
