"""An audit for people: a few tables on a terminal, or one HTML page."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd
from jinja2 import Environment
from rich.console import Console
from rich.table import Table

from microg_da.data.audit import Audit, group_table
from microg_da.terminal import print_table


def print_audit(audit: Audit, console: Console) -> None:
    """What is wrong first, then what there is."""
    console.print(f"[bold]{audit.source}[/bold], split {audit.split}")
    problems = Table("found", "what", "detail", "e.g.", title="Findings", title_justify="left")
    for finding in audit.problems:
        problems.add_row(f"{finding.count:,}", finding.name, finding.detail, "; ".join(finding.examples[:2]))
    print_table(problems, console)
    clean = [finding.name for finding in audit.findings if not finding.count]
    console.print(f"Looked for and not found: {', '.join(clean) or '(nothing)'}.")
    counts = Table("what", "number", title="Contents", title_justify="left")
    for name, count in audit.counts.items():
        counts.add_row(name, f"{count:,}")
    for persons, clips in audit.persons_per_clip.items():
        counts.add_row(f"clips with {persons} person{'s' if persons > 1 else ''}", f"{clips:,}")
    print_table(counts, console)
    print_table(_as_rich(audit.sides, "Sides"), console)
    print_table(_as_rich(group_table(audit.classes), "Labels by group"), console)


def audit_html(audit: Audit) -> str:
    """One page without outside resources."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("microg_da.data") / "audit.html.j2").read_text(encoding="utf-8"))
    tables = {
        "Sides": audit.sides.reset_index(names="side"),
        "Labels by group": group_table(audit.classes).reset_index(),
        "Labels by class": audit.classes,
    }
    return template.render(audit=audit, tables=tables)


def _as_rich(table: pd.DataFrame, title: str) -> Table:
    rich_table = Table("", *map(str, table.columns), title=title, title_justify="left")
    for name, row in table.iterrows():
        rich_table.add_row(str(name), *(f"{value:,}" for value in row))
    return rich_table
