"""What the site takes from outside docs/: the README as its first page, and the cards.

Files stay where readers of the repository look for them; links are turned to where the site has
them. A link to a file that the site has not goes nowhere, and `--strict` says so.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "data/README.md": "cards/the_tidy_tide.md",
    "data/LICENSE": "cards/LICENSE.txt",
} | {
    path.relative_to(ROOT).as_posix(): f"cards/{path.parent.name}.md"
    for path in (ROOT / "rlhf_dialog/evaluation/metrics").glob("*/README.md")
}
_PLACE = {site: source for source, site in PAGES.items()}
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")
_HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)  # a card's, for the Hub


def on_files(files: Files, config) -> Files:
    for source, site in PAGES.items():
        text = _HEADER.sub("", (ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, site, content=text))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Links between files of the repository as links between pages of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(_PLACE.get(here, f"docs/{here}"))

    def turned(match: re.Match) -> str:
        target = match[1]
        if "://" in target or target.startswith("mailto:"):
            return target
        source = posixpath.normpath(posixpath.join(folder, target))
        site = PAGES.get(source, source.removeprefix("docs/"))
        return posixpath.relpath(site, posixpath.dirname(here) or ".")

    return _LINK.sub(turned, markdown)
