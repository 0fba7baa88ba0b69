"""What `evaluate` and its relatives refuse, and what they say about scores and keyframes, in Python as in the command."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

import microg_da
from microg_da.cli import main
from microg_da.data.annotations import BOX, read_detections, write_annotations, write_detections
from microg_da.data.score_kinds import sidecar
from microg_da.errors import InputError
from microg_da.evaluation.fusion import fuse
from microg_da.evaluation.metric import DetectionMetrics
from microg_da.evaluation.paired_comparison import compare
from microg_da.evaluation.uncertainty import bootstrap


def probabilities_of(detections):
    return detections.assign(score=1 / (1 + np.exp(-detections.score)))


@pytest.fixture
def tables(make_tables):
    return make_tables(3)


@pytest.fixture
def files(tables, tmp_path):
    """Detections as probabilities that say so, and ground truth."""
    detections, truth = tables
    write_detections(probabilities_of(detections), tmp_path / "d.csv.gz", scores="probability")
    write_annotations(truth, tmp_path / "g.csv")
    return tmp_path


def json_of(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


class TestValues:
    @pytest.mark.parametrize("which", [0, 1])
    def test_boxes_in_pixels(self, tables, which):
        tables = [table.copy() for table in tables]
        tables[which][BOX] *= 480
        with pytest.raises(InputError, match=r"row 0\b.*\[0, 1\]"):
            microg_da.evaluate(*tables)

    @pytest.mark.parametrize("column", ["action_id", "frame_stamp", "x1"])
    @pytest.mark.parametrize("which", [0, 1])
    def test_text_instead_of_numbers(self, tables, which, column):
        tables = list(tables)
        tables[which] = tables[which].assign(**{column: tables[which][column].astype(str)})
        with pytest.raises(InputError, match=f"column {column}\\b.*numbers"):
            microg_da.evaluate(*tables)

    def test_every_way_to_score_checks(self, tables):
        detections, truth = tables
        pixels = detections.assign(**{name: detections[name] * 480 for name in BOX})
        for score in (
            lambda: bootstrap(pixels, truth, resamples=2),
            lambda: compare({"a": detections, "b": pixels}, truth, resamples=2),
            lambda: fuse([detections, pixels]),
        ):
            with pytest.raises(InputError, match=r"row 0\b.*\[0, 1\]"):
                score()

    def test_ids_that_the_readers_refuse(self, tables):
        detections, truth = tables
        with pytest.raises(InputError, match=r"row 0\b.*action_id.*1…1000"):
            microg_da.evaluate(detections.assign(action_id=0), truth)


class TestKeyframes:
    def test_none_in_common_is_an_error_with_one_of_each(self, tables, files, capsys):
        detections, truth = tables
        moved = detections.assign(video_id="other_" + detections.video_id)
        with pytest.raises(InputError, match=r"'other_film.*'film"):
            microg_da.evaluate(moved, truth)
        write_detections(moved, files / "moved.csv")
        assert main(["evaluate", "--detections", f"{files}/moved.csv", "--ground-truth", f"{files}/g.csv"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        for part in ("moved.csv", "g.csv", moved.video_id.iloc[0], truth.video_id.iloc[0]):
            assert part in printed.err

    def test_stamps_in_another_unit_are_shown_for_one_video(self, tables):
        detections, truth = tables
        truth = truth.assign(frame_stamp=truth.frame_stamp + 1000)
        with pytest.raises(InputError, match=r"keyframe.*'film.*frame_stamp") as caught:
            microg_da.evaluate(detections, truth)
        video = detections.video_id.iloc[0]
        stamps = [table[table.video_id == video].frame_stamp.iloc[0] for table in (detections, truth)]
        assert [str(caught.value).count(f"{video!r} at frame_stamp {stamp};") for stamp in stamps] == [0, 1]
        assert f"{video!r} at frame_stamp {stamps[0]}," in str(caught.value)

    def test_comparing_and_fusing_refuse_too(self, tables):
        detections, truth = tables
        moved = truth.assign(video_id="other_" + truth.video_id)
        with pytest.raises(InputError, match=r"keyframe.*'film.*'other_film"):
            compare({"a": detections, "b": detections}, moved, resamples=2)
        with pytest.raises(InputError, match=r"keyframe.*'film.*'other_film"):
            fuse([detections], fit_detections=[detections], fit_ground_truth=moved)

    def test_partial_overlap_is_counted_and_said(self, tables, files, capsys):
        detections, truth = tables
        videos = sorted(set(truth.video_id))
        gone, alone = videos[:3], videos[5:7]
        detections = detections[~detections.video_id.isin(gone)]
        truth = truth[~truth.video_id.isin(alone)]
        key = ["video_id", "frame_stamp"]
        true, found = ({tuple(row) for row in table[key].to_numpy()} for table in (truth, detections))
        scores = microg_da.evaluate(detections, truth)
        assert scores.num_keyframes == len(true)
        assert scores.num_keyframes_without_detections == len(true - found) >= 3
        assert scores.num_keyframes_without_ground_truth == len(found - true) >= 1
        write_detections(detections, files / "part.csv")
        write_annotations(truth, files / "part_g.csv")
        words = ["evaluate", "--detections", f"{files}/part.csv", "--ground-truth", f"{files}/part_g.csv"]
        assert main(words) == 0
        printed = capsys.readouterr().out
        assert f"{len(true - found)} of these keyframes have no detections" in printed
        assert f"{len(found - true)} other keyframes have detections but no ground truth" in printed

    def test_a_part_without_detections_is_a_part(self, tables, files, capsys):
        """One source video whose detections have other stamps does not stop a breakdown by source video."""
        detections, _ = tables
        film = detections.video_id.str.startswith("film1_")
        detections = detections.assign(frame_stamp=detections.frame_stamp.where(~film, 9999))
        write_detections(detections, files / "part.csv")
        words = ("evaluate", "--detections", files / "part.csv", "--ground-truth", files / "g.csv", "--by", "source")
        parts = {part["part"]: part["map"] for part in json_of(capsys, *words)["parts"]}
        assert parts["film1"] == 0
        assert parts["film2"] > 0


class TestScoreKinds:
    def test_a_file_says_what_its_scores_are_and_the_csv_stays_plain(self, files, tables):
        table = read_detections(files / "d.csv.gz")
        assert table.attrs["scores"] == "probability"
        plain = pd.read_csv(files / "d.csv.gz")
        assert list(plain.columns) == ["video_id", "frame_stamp", *BOX, "action_id", "score"]
        assert plain.score.tolist() == pytest.approx(probabilities_of(tables[0]).score.tolist())

    def test_evaluate_reads_them_as_they_are(self, tables, files, capsys):
        wanted = microg_da.evaluate(*tables, scores="logit")
        words = ("evaluate", "--detections", files / "d.csv.gz", "--ground-truth", files / "g.csv")
        found = json_of(capsys, *words)
        assert found["score_kind"] == "probability"
        assert found["f1_macro"] == pytest.approx(wanted.f1_macro)
        assert found["recall_macro"] == pytest.approx(wanted.recall_macro) != 1
        assert main([*map(str, words), "--scores", "logit"]) == 2
        assert "d.csv.gz: the file says that each score is a probability" in capsys.readouterr().err

    def test_parts_intervals_and_figures_read_them_too(self, tables, files, capsys):
        words = ["evaluate", "--ground-truth", files / "g.csv", "--by", "source", "--ci", "--resamples", "8"]
        found = json_of(capsys, *words, "--detections", files / "d.csv.gz", "--figure", files / "f.svg")
        write_detections(tables[0], files / "logits.csv", scores="logit")
        wanted = json_of(capsys, *words, "--detections", files / "logits.csv", "--figure", files / "f.svg")
        assert found["intervals"]["source"]["recall_macro"] == wanted["intervals"]["source"]["recall_macro"]
        for a, b in zip(found["parts"], wanted["parts"], strict=True):
            assert (a["recall_macro"], a["intervals"]) == (b["recall_macro"], b["intervals"])

    def test_fuse_and_compare_read_each_file_as_it_is(self, tables, files, capsys):
        write_detections(tables[0], files / "logits.csv", scores="logit")
        both = ("--detections", files / "d.csv.gz", files / "logits.csv")
        truth = ("--ground-truth", files / "g.csv")
        words = ("compare", *both, *truth, "--metric", "recall_macro", "--resamples", "20")
        models = json_of(capsys, *words)["models"]
        assert models[0]["value"] == pytest.approx(models[1]["value"]) != 1
        json_of(capsys, "fuse", *both, "--output", files / "fused.csv")
        fused = read_detections(files / "fused.csv")
        assert fused.attrs["scores"] == "probability"
        wanted = fuse([tables[0], tables[0]]).detections
        paired = fused.merge(wanted, on=[*fused.columns[:7]])
        assert len(paired) == len(wanted)
        np.testing.assert_allclose(paired.score_x, paired.score_y, atol=1e-9)

    @pytest.mark.parametrize("scores", [None, "logit"])
    def test_probabilities_that_nothing_declares_are_pointed_out(self, tables, caplog, scores):
        detections, truth = tables
        with caplog.at_level(logging.WARNING):
            microg_da.evaluate(probabilities_of(detections), truth, scores=scores)
        assert [record.getMessage() for record in caplog.records if "every score lies in [0, 1]" in record.getMessage()]

    def test_nothing_is_pointed_out_where_it_is_clear(self, tables, files, caplog):
        detections, truth = tables
        with caplog.at_level(logging.WARNING):
            microg_da.evaluate(detections, truth)
            microg_da.evaluate(probabilities_of(detections), truth, scores="probability")
            microg_da.evaluate(read_detections(files / "d.csv.gz"), truth)
        assert not caplog.records

    def test_the_command_points_it_out_once(self, files, caplog):
        sidecar(files / "d.csv.gz").unlink()
        words = ["evaluate", "--detections", f"{files}/d.csv.gz", "--ground-truth", f"{files}/g.csv"]
        with caplog.at_level(logging.WARNING):
            assert main([*words, "--by", "source", "--ci", "--resamples", "4"]) == 0
        assert [f"{files}/d.csv.gz: every score" in record.getMessage() for record in caplog.records] == [True]

    def test_a_statement_about_an_earlier_content_is_not_used(self, files, caplog):
        path = files / "d.csv.gz"
        table = pd.read_csv(path)
        table.assign(score=table.score * 9 - 4).to_csv(path, index=False)
        with caplog.at_level(logging.WARNING):
            assert "scores" not in read_detections(path).attrs
        assert "has changed since d.csv.gz.json" in caplog.text

    def test_writing_again_without_a_statement_removes_the_old_one(self, tables, files):
        write_detections(tables[0], files / "d.csv.gz")
        assert not sidecar(files / "d.csv.gz").exists()
        assert "scores" not in read_detections(files / "d.csv.gz").attrs

    def test_other_programs_json_is_left_alone(self, tables, files):
        sidecar(files / "d.csv.gz").write_text('["something else"]')
        assert "scores" not in read_detections(files / "d.csv.gz").attrs
        write_detections(tables[0], files / "d.csv.gz")
        assert sidecar(files / "d.csv.gz").exists()

    def test_the_statement_is_kept_on_the_way_through_a_table(self, files):
        write_detections(read_detections(files / "d.csv.gz"), files / "copy.csv")
        assert read_detections(files / "copy.csv").attrs["scores"] == "probability"

    def test_the_detections_of_a_test_are_logits_and_say_so(self, tables, tmp_path):
        """What `fit` and `test` write of a detector."""
        truth = tables[1]
        metric = DetectionMetrics(truth)
        keys = list(truth[["video_id", "frame_stamp"]].drop_duplicates().itertuples(index=False, name=None))
        boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5]]).expand(len(keys), 4)
        metric.update(metric.index_of(keys), boxes, torch.randn(len(keys), 50))
        write_detections(metric.detections(), tmp_path / "test.csv.gz")
        assert read_detections(tmp_path / "test.csv.gz").attrs["scores"] == "logit"

    def test_an_unknown_kind(self, tables, tmp_path):
        with pytest.raises(InputError, match=r"scores 'percent'.*logit, probability"):
            write_detections(tables[0], tmp_path / "d.csv", scores="percent")
        assert not list(tmp_path.iterdir())


def test_a_wrong_table_is_not_told_to_rename_a_column_that_is_there(tmp_path, capsys):
    """`actions.csv` instead of the ground truth."""
    path = tmp_path / "actions.csv"
    path.write_text("video_id,movie_or_real,person_id,action\nv_1,m,1,12\n")
    assert main(["evaluate", "--detections", str(path), "--ground-truth", str(path)]) == 2
    error = capsys.readouterr().err
    assert "unexpected column 'movie_or_real'" in error
    assert "Did you mean" not in error
