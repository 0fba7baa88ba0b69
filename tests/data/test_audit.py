"""The audit against the real tables' known numbers, and against data in which each fault was planted."""

import json
import re
from base64 import b64decode

import cv2
import numpy as np
import pytest
from small_trees import ROWS, write_frames

from microg_da.cli import main
from microg_da.data.audit import AlikePair, Audit, audit, division_of, frames_of
from microg_da.data.audit_page import MOST_BYTES, MOST_PAIRS, audit_html, embedded_pairs
from microg_da.data.fingerprints import close_pairs, difference_hash
from microg_da.data.sources import read_dataset_files


def audit_of(root, query: str = "") -> Audit:
    tree, options = read_dataset_files(f"microg4m:{root}{query}", check_boxes=False)
    return audit(tree, division_of(tree, options, chosen="scheme" in query), frames=frames_of(tree, "auto"))


def found(result: Audit) -> dict[str, int]:
    return {finding.name: finding.count for finding in result.problems}


@pytest.fixture(scope="module")
def result(test_data) -> Audit:
    return audit_of(test_data / "microg4m")


@pytest.mark.data
class TestRealTables:
    def test_counts(self, result):
        assert result.counts == {
            "clips": 4759,
            "source videos": 48,
            "annotations": 13261,
            "boxes": 5735,
            "keyframes": 5468,
            "classes": 50,
            "annotations, real": 9610,
            "annotations, simulated": 3651,
        }
        assert result.persons_per_clip[1] == 3983
        assert sum(result.persons_per_clip.values()) == 4759

    def test_findings(self, result):
        numbers = found(result)
        assert numbers["duplicate rows"] == 21
        assert numbers["test clips whose source video is in train"] == 953
        assert numbers["classes with no example in test"] == 9
        assert numbers["persons without a box"] == 6

    def test_classes_add_up(self, result):
        classes = result.classes
        assert len(classes) == 50
        assert classes.labels.sum() == 13261
        assert (classes.labels == classes.real + classes.simulated).all()
        assert classes[["train", "val", "test"]].sum().tolist() == [9266, 1329, 2656]

    def test_by_source_leaks_nothing(self, test_data):
        numbers = found(audit_of(test_data / "microg4m", "?scheme=by-source"))
        assert not [name for name in numbers if "source video" in name]


@pytest.fixture
def alike(tmp_path):
    """Three clips; the third is the first one, a little brighter and recompressed, in another split."""
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 256, (6, 8, 3), np.uint8) for _ in range(3)]
    for clip, scene, gain in (("a_1", 0, 0), ("b_1", 1, 0), ("c_1", 0, 9)):
        folder = tmp_path / "frames" / clip
        folder.mkdir(parents=True)
        picture = cv2.add(cv2.resize(scenes[scene], (64, 48), interpolation=cv2.INTER_CUBIC), gain)
        for number in range(1, 5):
            path = folder / f"{clip}_{number:06d}.jpg"
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    (tmp_path / "train.csv").write_text("a_1,2,0,0,1,1,12,1\nb_1,2,0,0,1,1,12,1\n")
    (tmp_path / "test.csv").write_text("c_1,2,0,0,1,1,12,1\n")
    return tmp_path


class TestPlantedFaults:
    @pytest.mark.parametrize(
        ("row", "name"),
        [
            ("recB_001,8,0.3,0.3,0.3,0.6,79,3", "boxes without area"),
            ("recB_001,8,0.3,0.3,1.3,0.6,79,3", "boxes outside the image"),
            ("recB_001,8,0.3,0.3,0.305,0.6,79,3", "very small boxes"),
            (ROWS.splitlines()[0], "duplicate rows"),
        ],
    )
    def test_is_counted(self, tree, row: str, name: str):
        before = found(audit_of(tree)).get(name, 0)
        (tree / "annotations" / "ava_train.csv").write_text(ROWS + row + "\n")
        assert found(audit_of(tree))[name] == before + 1

    def test_labels_without_boxes_and_boxes_without_labels(self, tree):
        (tree / "annotations" / "actions.csv").write_text(
            "video_id,movie_or_real,person_id,action\n"
            "filmA_001,m,1,12\nfilmA_001,m,1,17\nfilmA_001,m,2,80\nfilmA_002,m,7,12\nrecB_001,r,1,14\nrecC_001,r,1,14\n"
        )
        numbers = found(audit_of(tree))
        assert numbers["persons without a box"] == 2
        assert numbers["clips without a box"] == 1
        assert numbers["persons without a label"] == 2

    def test_a_damaged_clip_and_a_missing_one(self, tree):
        frames = tree / "frames"
        path = frames / "filmA_001" / "filmA_001_000004.jpg"
        path.write_bytes(path.read_bytes()[:50])
        (frames / "recB_001").rename(frames / "elsewhere")
        numbers = found(audit_of(tree))
        assert numbers["clips that cannot be read"] == 1
        assert numbers["clips without frames"] == 1

    def test_near_identical_clips_on_two_sides(self, alike):
        result = audit_of(alike)
        assert found(result)["near-identical clips in two splits"] == 1
        assert [f.examples for f in result.findings if f.name == "near-identical clips"] == [("a_1 = c_1",)]
        assert result.alike == (("a_1", "c_1", ("train", "test")),)

    def test_plain_pictures_do_not_count_as_alike(self, tree):
        assert "near-identical clips" not in found(audit_of(tree))


class TestWithoutASplitFile:
    HEADER = "video_id,frame_stamp,xmin,ymin,xmax,ymax,action_id,person_id\n"

    @pytest.fixture
    def undivided(self, alike):
        rows = "".join((alike / f"{side}.csv").read_text() for side in ("train", "test"))
        for side in ("train", "test"):
            (alike / f"{side}.csv").unlink()
        (alike / "ava_format_with_header.csv").write_text(self.HEADER + rows)
        return alike

    def test_everything_but_the_sides_is_examined(self, undivided):
        result = audit_of(undivided)
        assert result.split == ""
        assert result.as_dict()["splits"] == []
        assert result.counts["clips"] == 3
        assert found(result)["near-identical clips"] == 1
        assert found(result)["classes with 1 to 4 examples in the data"] == 1
        assert not {"train", "val", "test"}.intersection(result.classes.columns)
        assert not [finding.name for finding in result.findings if " split" in finding.name or "train" in finding.name]

    def test_the_command_says_so_in_every_form(self, undivided, capsys):
        page = undivided / "audit.html"
        assert main(["audit", "--data", f"microg4m:{undivided}", "--html", str(page)]) == 0
        assert "without a split" in capsys.readouterr().out
        assert "Without a split" in page.read_text()
        assert main(["audit", "--data", f"microg4m:{undivided}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["alike"] == [
            {"first": "a_1", "second": "c_1", "splits": [None, None]}
        ]

    def test_a_scheme_that_was_asked_for_must_be_possible(self, undivided, capsys):
        assert main(["audit", "--data", f"microg4m:{undivided}?scheme=published", "--json"]) == 2
        assert "no split file" in capsys.readouterr().err

    def test_clips_that_the_files_leave_out_are_a_finding(self, alike):
        rows = "".join((alike / f"{side}.csv").read_text() for side in ("train", "test"))
        (alike / "ava_format_with_header.csv").write_text(self.HEADER + rows + "d_1,2,0,0,1,1,12,1\n")
        result = audit_of(alike)
        assert found(result)["clips in no split"] == 1
        assert result.splits.clips.tolist() == [2, 0, 1]

    @pytest.mark.data
    def test_the_real_table_alone(self, test_data, tmp_path):
        (tmp_path / "ava_format_with_header.csv").symlink_to(test_data / "microg4m" / "ava_format_with_header.csv")
        result = audit_of(tmp_path)
        assert result.counts["annotations"] == 13251
        assert result.classes.labels.sum() == 13251


class TestPage:
    def test_what_was_not_found_comes_last(self, alike):
        page = audit_html(audit_of(alike))
        numbers = [int(number) for number in re.findall(r'<td class="number">(\d+)</td><td>[^<]+</td>\n', page)]
        zeros = [not number for number in numbers]
        assert len(set(zeros)) == 2
        assert zeros == sorted(zeros)

    def test_look_alike_clips_are_shown(self, alike, tmp_path):
        page = tmp_path / "audit.html"
        assert main(["audit", "--data", f"microg4m:{alike}", "--html", str(page)]) == 0
        text = page.read_text()
        assert text.count("<img ") == 2
        assert 'alt="frame of a_1"' in text
        assert 'alt="frame of c_1"' in text
        pictures = re.findall(r'src="data:image/webp;base64,([^"]+)"', text)
        shown = [cv2.imdecode(np.frombuffer(b64decode(each), np.uint8), cv2.IMREAD_COLOR) for each in pictures]
        for image, clip in zip(shown, ("a_1", "c_1"), strict=True):
            stored = cv2.imread(str(alike / "frames" / clip / f"{clip}_000003.jpg"))
            assert np.abs(image.astype(float) - stored).mean() < 8

    def test_pictures_keep_to_their_budget(self, monkeypatch):
        """Noise, which compresses least, in more pairs than a page shows."""
        monkeypatch.setattr("microg_da.data.audit_page.PICTURE_BYTES", 400_000)
        noise = np.random.default_rng(0).integers(0, 256, (240, 426, 3), np.uint8)

        class Frames:
            def num_frames(self, video_id):
                return 9

            def read(self, video_id, numbers, min_short_side=None):
                assert numbers.tolist() == [4]
                yield noise

        pairs = [AlikePair(f"a_{i}", f"b_{i}", (None, None)) for i in range(MOST_PAIRS + 5)]
        shown = embedded_pairs(pairs, Frames())
        assert [each.pair for each in shown] == pairs[:MOST_PAIRS]
        assert 100_000 < sum(len(each.first) + len(each.second) for each in shown) <= 400_000
        few = embedded_pairs(pairs[:1], Frames())
        assert len(few[0].first) <= MOST_BYTES


def test_close_pairs_are_those_of_a_plain_count():
    bits = np.random.default_rng(0).random((30, 16)) < 0.5
    expected = [(i, j) for i in range(30) for j in range(i + 1, 30) if (bits[i] != bits[j]).sum() <= 4]
    assert close_pairs(bits, 4) == expected
    assert close_pairs(bits[:0], 4) == []


def test_difference_hash_does_not_see_brightness_but_direction():
    ramp = np.tile(np.arange(90, dtype=np.uint8), (80, 1))
    assert difference_hash(ramp).all()
    assert not difference_hash(ramp[:, ::-1]).any()
    np.testing.assert_array_equal(difference_hash(ramp), difference_hash(ramp + 50))


class TestCommand:
    def test_json(self, tree, capsys):
        assert main(["audit", "--data", f"microg4m:{tree}", "--json"]) == 0
        value = json.loads(capsys.readouterr().out)
        assert value["counts"]["clips"] == 3
        assert value["splits"][0] == {"split": "train", "clips": 3, "keyframes": 4, "boxes": 5, "labels": 6}

    def test_tables(self, tree, capsys):
        assert main(["audit", "--data", f"microg4m:{tree}", "--tables-only"]) == 0
        out = capsys.readouterr().out
        assert "Findings" in out
        assert "clips without frames" not in out

    def test_page(self, tree, tmp_path):
        page = tmp_path / "audit.html"
        assert main(["audit", "--data", f"microg4m:{tree}", "--html", str(page)]) == 0
        text = page.read_text()
        assert "http" not in text
        assert "person movement" in text

    def test_the_page_escapes_what_a_file_says(self, tree):
        result = audit_of(tree)
        page = audit_html(Audit(**{**vars(result), "source": "<script>alert(1)</script>"}))
        assert "<script>" not in page

    def test_the_embedded_data_is_not_audited(self, capsys):
        assert main(["audit", "--data", "synthetic:earth"]) == 2
        assert "synthetic data has no files" in capsys.readouterr().err

    def test_a_video_is_not_looked_for_where_there_are_only_tables(self, tmp_path, capsys):
        write_frames(tmp_path / "elsewhere", ["a_1"])
        (tmp_path / "train.csv").write_text("a_1,2,0,0,1,1,12,1\n")
        assert main(["audit", "--data", f"microg4m:{tmp_path}", "--json"]) == 0
        assert "clips without frames" not in {f["name"] for f in json.loads(capsys.readouterr().out)["findings"]}
