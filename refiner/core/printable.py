"""Texts from files, made safe to print: a name may hold what steers a terminal or a page."""

import re

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""What moves the cursor, reverses letters, or is not a character; tab and line feed stay."""
_HTML = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\](?=[(\[:])")


def printable(text: str) -> str:
    """Return a text in which control characters are shown by their codes: ``\\x1b``."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def harmless_markdown(page: str) -> str:
    """Return a Markdown page without control characters, HTML or links.

    For pages of this program's own making, which use none of these. Names in them are data.
    """
    return _LINK.sub("\\\\]", _HTML.sub("&lt;", printable(page)))
