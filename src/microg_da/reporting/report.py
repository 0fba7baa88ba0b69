"""`report.html`: the settings, scores and pictures of a run in one self-contained file."""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path

import jinja2
from markupsafe import Markup

from microg_da import __version__
from microg_da.evaluation.finding import verdict_of
from microg_da.files import write_text
from microg_da.reporting import tables
from microg_da.reporting.analysis import RunAnalysis
from microg_da.reporting.numbers import percent
from microg_da.reporting.sections import SECTIONS, headline
from microg_da.runs.layout import RunFolder


def write_report(run_folder: str | Path) -> Path:
    """Write ``report.html`` into a run folder, from the other files in it.

    Returns:
        The path of the page, which contains all images and styles.

    Raises:
        InputError: if ``run.json`` or ``results.json`` is missing, or a file cannot be understood.
    """
    folder = Path(run_folder)
    return write_text(RunFolder(folder).report_file, render_report(RunAnalysis.read(folder)))


def render_report(run: RunAnalysis) -> str:
    """The page as text."""
    built = [(section, section.build(run)) for section in SECTIONS]
    sections = [(section, content) for section, content in built if content is not None]
    return environment().get_template("report.html.j2").render(headline=headline(run), sections=sections)


def environment() -> jinja2.Environment:
    """Return the template engine, which escapes all values and raises errors for undefined names."""
    engine = jinja2.Environment(
        loader=jinja2.PackageLoader("microg_da.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters.update(percent=percent, duration=tables.duration, brief=tables.brief)
    engine.globals.update(infinity=math.inf, verdict_of=verdict_of)
    engine.globals.update(version=__version__, variant_titles=tables.VARIANT_TITLES, group_titles=tables.GROUP_TITLES)
    script = (Path(__file__).parent / "templates" / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # Pages allow only this script, by its hash.
    engine.globals.update(script=Markup(script), script_hash=f"sha256-{digest}")
    return engine
