"""`config` prints what `fit --config` takes."""

from __future__ import annotations

import pytest

from microg_da.cli import main
from microg_da.config import load_config
from microg_da.config.experiments import experiment_files


@pytest.mark.parametrize("experiment", experiment_files())
def test_what_is_printed_is_the_configuration(experiment, tmp_path, capsys):
    words = ["seed=7", "adaptation=dann", "adaptation.args.weight=0.5"]
    assert main(["config", "--experiment", experiment, *words]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    (tmp_path / "config.yaml").write_text(printed.out)
    assert load_config(config=tmp_path / "config.yaml") == load_config(experiment, words)


@pytest.mark.parametrize(("frozen", "freeze"), [("true", "all"), ("false", 2)])
def test_a_configuration_of_version_0_2_0_may_hold_model_frozen(tmp_path, capsys, frozen, freeze):
    assert main(["config", "model.freeze=2"]) == 0
    printed = capsys.readouterr().out
    assert "\n  freeze: 2\n" in printed
    (tmp_path / "config.yaml").write_text(printed.replace("  freeze: 2\n", f"  freeze: 2\n  frozen: {frozen}\n"))
    assert load_config(config=tmp_path / "config.yaml").model.freeze == freeze
    assert main(["config", "model.frozen=true"]) == 2
    assert "model.freeze" in capsys.readouterr().err


def test_a_printed_configuration_can_be_changed_and_printed_again(tmp_path, capsys):
    assert main(["config", "model=x3d_s_13x6"]) == 0
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    assert main(["config", "--config", str(tmp_path / "config.yaml"), "--seed", "3"]) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    again = load_config(config=tmp_path / "again.yaml")
    assert (again.seed, again.model.num_frames, again.model.sampling_rate) == (3, 13, 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--experiment", "ava2micorg"], "'ava2microg'"),
        (["training.epoch=3"], "training.epochs"),
        (["adaptation=dan"], "'dann'"),
        (["model=slow_r50"], "'slow_r50_"),
        (["--experiment", "ava2microg", "--config", "x.yaml"], "cannot be combined"),
        (["--json-schema", "seed=3"], "--json-schema"),
        (["stray"], "key=value"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert main(["config", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
