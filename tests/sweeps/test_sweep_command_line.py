"""`command` against the agent of the installed wandb itself."""

from pathlib import Path

import pytest

from microg_da.errors import InputError
from microg_da.sweeps.command import expand_command

ARGS = {
    "training.lr": 0.001,
    "bounds": True,
    "seed": 3,
    "augment.scale": [0.9, 1.1],
    "model": {"num_frames": 4},
    "n": None,
    "no": False,
}
COMMAND = [
    "${env}",
    "${interpreter}",
    "-m",
    "${program}",
    "fit",
    "x-${envvar:MY_NAME}-${envvar:NO_SUCH}",
    7,
    "a${args}b",
]
MACROS = [
    *("args", "args_no_equals", "args_no_hyphens", "args_no_boolean_flags"),
    *("args_json", "args_json_file", "args_append_hydra", "args_override_hydra"),
]


@pytest.fixture
def agent(monkeypatch, tmp_path):
    """What W&B's agent would start for a command: its own code, with the process left out."""
    wandb_agent = pytest.importorskip("wandb.wandb_agent")
    started = []

    class Recorded:
        def __init__(self, command=None, **_):
            started.append(command)

    monkeypatch.setattr(wandb_agent, "AgentProcess", Recorded)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    (tmp_path / "wandb" / "sweep-abc").mkdir(parents=True)

    def run(command, program, args):
        agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc")
        agent._sweep_command = list(command)
        values = {name: {"value": value} for name, value in args.items()}
        agent._command_run({"run_id": "run1", "program": program, "args": values})
        command = started.pop()
        # Where W&B's versions put the file differs, and is theirs to say.
        return command, Path(next((word for word in command if word.endswith("config-run1.json")), "config-run1.json"))

    return run


@pytest.mark.parametrize("macro", MACROS)
def test_it_expands_as_the_agent_does(agent, macro, monkeypatch):
    monkeypatch.setenv("MY_NAME", "me")
    command = [*COMMAND, f"${{{macro}}}"]
    theirs, json_file = agent(command, "microg_da", ARGS)
    assert expand_command(command, "microg_da", ARGS, json_file) == theirs
    if macro == "args_json_file":
        assert json_file.read_text() == expand_command(["${args_json}"], "", ARGS, "")[0]


def test_a_macro_that_the_agent_would_drop_is_refused():
    with pytest.raises(InputError, match=r"args_no_hypens.*args_no_hyphens"):
        expand_command(["${args_no_hypens}"], "", {}, "")
