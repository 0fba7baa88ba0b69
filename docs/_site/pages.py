"""Pages of the site outside docs/: generated references, notebooks, files of the root folder."""

from __future__ import annotations

from pathlib import Path

import command_reference
import configuration_reference
import python_reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]

GENERATED = {
    "reference/commands.md": command_reference.render,
    "reference/configuration.md": configuration_reference.render,
    "reference/python.md": python_reference.render,
}
"""Function that renders a page, by the path of the page in the site."""

ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""File of the repository for a page, by the path of the page in the site."""


# Runs before mkdocs-jupyter, which processes the notebooks among the files.
@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the pages of docs/."""
    for path, render in GENERATED.items():
        files.append(File.generated(config, path, content=render()))
    for path, name in ROOT_PAGES.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / name)))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        # The source folder is the root, because mkdocs-jupyter does not support `File.generated`.
        files.append(File(f"notebooks/{notebook.name}", str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Watch the sources of the references, so that ``mkdocs serve`` builds again after changes."""
    config.watch += [str(ROOT / "src"), str(ROOT / "notebooks"), *(str(ROOT / name) for name in ROOT_PAGES.values())]
    return config
