"""`config`: the configuration that results from an experiment and overrides."""

from __future__ import annotations

import argparse

ACCEPTS_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `config`."""
    parser.add_argument(
        "--experiment", metavar="NAME|FILE", help="an experiment by name or by path (default: ava2microg)"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a resolved config.yaml, e.g. that of a run, in place of an experiment"
    )
    parser.add_argument(
        "--json-schema",
        action="store_true",
        help="print the JSON schema of experiment files, for editors, in place of a configuration",
    )


def run(args: argparse.Namespace) -> int:
    """Print YAML that `fit --config` reads, or the JSON schema."""
    from microg_da.config import config_text, load_config
    from microg_da.errors import InputError

    if args.json_schema:
        if args.experiment or args.config or args.overrides:
            raise InputError("config: --json-schema cannot be combined with --experiment, --config or keys.")
        print(schema_text(), end="")
        return 0
    if args.experiment and args.config:
        raise InputError("config: --experiment and --config cannot be combined. Give one of them.")
    config = load_config(args.experiment, args.overrides, config=args.config)
    from microg_da.training.preflight import check_names

    check_names(config)
    print(config_text(config), end="")
    return 0


def schema_text() -> str:
    """Return the JSON schema of experiment files, with the names in the registries."""
    import json

    from microg_da.adaptation import ADAPTATIONS
    from microg_da.config.json_schema import json_schema
    from microg_da.models import MODELS

    names = {"model.name": MODELS, "adaptation.name": ADAPTATIONS, "adaptation.test_time": ADAPTATIONS}
    return json.dumps(json_schema(names), indent=1, ensure_ascii=False) + "\n"
