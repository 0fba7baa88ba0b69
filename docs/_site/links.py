"""Conversion of links to files outside docs/, which work on the web page of the repository but not on the site.

A link to a file that is also a page of the site (a notebook, the README) is changed to this page. A link to another
file of the repository is replaced by its path, or with ``repo_url`` in mkdocs.yml by a link to the repository. A
missing file causes a warning, which stops ``mkdocs build --strict``.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

logger = logging.getLogger("mkdocs.hooks.links")

ROOT = Path(__file__).resolve().parents[2]
HOME = {ROOT / "README.md": "index.md"}
_FENCE_OR_LINK = re.compile(
    r"^(?P<fence>```|~~~).*?^(?P=fence)[`~]*\s*$|(?<!!)\[(?P<label>[^\[\]]+)\]\((?P<target>[^()\s]+)\)",
    flags=re.MULTILINE | re.DOTALL,
)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page."""
    source = page.file.abs_src_path
    if source is None:  # generated page with links for the site
        return markdown
    # Generated pages have no source file. Their path is the path that they would have in docs/.
    pages = {Path(file.abs_src_path or Path(config.docs_dir, file.src_uri)): file.src_uri for file in files} | HOME

    def rewrite(match: re.Match[str]) -> str:
        label, target = match["label"], match["target"]
        if target is None or re.match(r"[a-z]+:|#|/", target):
            return match[0]
        path, _, anchor = target.partition("#")
        file = Path(os.path.normpath(Path(source).parent / path))
        if file in pages:
            here = os.path.relpath(pages[file], Path(page.file.src_uri).parent)
            return f"[{label}]({Path(here).as_posix()}{'#' if anchor else ''}{anchor})"
        if not file.exists() or ROOT not in file.parents:
            logger.warning("%s links to %s, which is not a file of the repository.", page.file.src_uri, target)
            return match[0]
        return _repository_path(label, file, config.repo_url)

    return _FENCE_OR_LINK.sub(rewrite, markdown)


def _repository_path(label: str, file: Path, repo_url: str | None) -> str:
    path = file.relative_to(ROOT).as_posix()
    if repo_url:
        return f"[{label}]({repo_url.rstrip('/')}/{'tree' if file.is_dir() else 'blob'}/HEAD/{path})"
    named = label.strip("`/")
    return f"`{path}`" if path.endswith(named) else f"{label} (`{path}`)"
