"""Folders of made-up images, a folder per class."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def fill(
    root: Path,
    classes: Iterable[str],
    count: int = 3,
    *,
    suffix: str = "png",
    size: tuple[int, int] = (8, 8),
    first: int = 0,
) -> Path:
    """Write ``count`` random images, height and width ``size``, for each class; all differ."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + count):
            file = root / name / f"{i}.{suffix}"
            drawn = np.random.default_rng(list(str(file).encode()))
            Image.fromarray(drawn.integers(0, 256, (*size, 3), dtype=np.uint8)).save(file)
    return root
