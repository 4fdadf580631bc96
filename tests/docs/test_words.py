"""Texts use the words of the concepts, and none of those that these replaced."""

import re

import pytest
from docs.reading import ROOT

WRITTEN = ("benchmarks", "cli", "docs", "examples", "recipes", "refiner")
REPLACED = re.compile(
    r"\b(told|taught|anew|alike|likeness|verdict|merit|finalists?|of\s+which|as\s+it\s+came|"
    r"as\s+found)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("folder", WRITTEN)
def test_no_replaced_word_is_left(folder: str) -> None:
    files = [path for kind in ("py", "md", "ipynb") for path in (ROOT / folder).rglob(f"*.{kind}")]
    assert files
    found = {path.name: REPLACED.findall(path.read_text("utf-8")) for path in sorted(files)}
    assert not {name: words for name, words in found.items() if words}
