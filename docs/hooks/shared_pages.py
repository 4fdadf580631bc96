"""A mkdocs hook: pages of the site that are files of the repository, such as README.md.

A page that holds ``<!-- file: README.md -->`` shows that file. Its links to other shared files and
into docs/ become links of the site; links to anything else keep their text alone.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository, and the pages that show them."""
_MARK = re.compile(r"<!-- file: (\S+) -->")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """Put the file that the page names in the place of its mark."""
    found = _MARK.search(markdown)
    if found is None:
        return markdown
    text = (ROOT / found[1]).read_text("utf-8")
    return _MARK.sub(lambda _: with_site_links(text, found[1], page.file.src_uri), markdown)


def with_site_links(text: str, file: str, page: str) -> str:
    """Return the text of a repository's file with links that hold on a page of the site."""

    def replaced(match: re.Match[str]) -> str:
        picture, shown, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash_, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        to = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if to is None:
            return shown
        relative = posixpath.relpath(to, posixpath.dirname(page) or ".")
        return f"{picture}[{shown}]({relative}{hash_}{anchor})"

    return _LINK.sub(replaced, text)
