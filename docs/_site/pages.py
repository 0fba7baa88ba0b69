"""Pages of the site that are not files of docs/: references made of the code, notebooks, files of the root folder."""

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
"""The text of a page, by its path in the site."""

ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""The file of the repository that a page shows, by its path in the site."""


# Before mkdocs-jupyter, which looks for notebooks among the files.
@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of docs/."""
    for path, render in GENERATED.items():
        files.append(File.generated(config, path, content=render()))
    for path, name in ROOT_PAGES.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / name)))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        # With the root as its folder: mkdocs-jupyter does not know files of `File.generated`.
        files.append(File(f"notebooks/{notebook.name}", str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Build again when the code of a reference changes, under ``mkdocs serve``."""
    config.watch += [str(ROOT / "src"), str(ROOT / "notebooks"), *(str(ROOT / name) for name in ROOT_PAGES.values())]
    return config
