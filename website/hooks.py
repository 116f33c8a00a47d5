"""Pages of the site that are files outside docs/, and links from pages to files of the repository.

Links are written as they hold in a checkout; here they become links to pages, or to the repository on the web.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "CONTRIBUTING.md": "docs/contributing.md",
    "CHANGELOG.md": "docs/changes.md",
    "benchmarks/README.md": "docs/measuring.md",
    "examples/README.md": "docs/examples.md",
    "src/finescale/bundled/README.md": "docs/bundled.md",
}
"""Files of the repository that are pages, by their paths, and where they would lie as files of docs/."""

_SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ as pages."""
    root = Path(config.config_file_path).parent
    for source, page in PAGES.items():
        files.append(File.generated(config, page.removeprefix("docs/"), abs_src_path=str(root / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Files) -> str:
    """Lead the links of a page to where their files are."""
    place = f"docs/{page.file.src_uri}"
    source = _SOURCES.get(place, place)
    root = Path(config.config_file_path).parent

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        reached = PAGES.get(target, target)
        if reached.startswith("docs/"):
            return os.path.relpath(reached, posixpath.dirname(place))
        if not (root / target).exists():
            return link[1]  # which a strict build refuses
        return f"{config.extra['repository']}/blob/main/{target}"

    return _LINK.sub(lead, markdown)
