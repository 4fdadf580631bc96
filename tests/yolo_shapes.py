"""Small detectors of ultralytics, and shapes on backgrounds to detect."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

TINY = """
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
head:
"""
HEADS = {
    "one": "  - [[2, 4], 1, Detect, [nc]]",
    "yolo26": "  - [[2, 4], 1, Detect, [nc]]\nend2end: True\nreg_max: 1",
    "yolov10": "  - [[2, 4], 1, v10Detect, [nc]]",
    "segment": "  - [-1, 1, Conv, [32, 3, 2]]\n  - [[4, 5], 1, Segment, [nc, 8, 16]]",
    "yolo26-seg": (
        "  - [-1, 1, Conv, [32, 3, 2]]\n  - [[4, 5], 1, Segment26, [nc, 8, 16]]"
        "\nend2end: True\nreg_max: 1"
    ),
}
"""The last layers of small networks; those of YOLO26 and YOLOv10 have two heads."""


def tiny_model(folder: Path, head: str = "one") -> str:
    """Write the YAML file of a network with strides from 4 on, and return its path."""
    (folder / "tiny.yaml").write_text(TINY + HEADS[head])
    return str(folder / "tiny.yaml")


def shapes(
    folder: Path, train: int = 12, val: int = 6, size: int = 64, outlines: bool = False
) -> str:
    """Draw squares and circles, and return the path of the data set's YAML file.

    Labels are boxes, or outlines.
    """
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for i in range(count):
            noise = rng.integers(0, 120, (8, 8, 3)).astype(np.uint8)
            image = Image.fromarray(noise).resize((size, size))
            rows = [_draw(ImageDraw.Draw(image), rng, size) for _ in range(rng.integers(1, 3))]
            image.save(folder / "images" / part / f"{i}.png")
            rows = [outline(row) for row in rows] if outlines else rows
            (folder / "labels" / part / f"{i}.txt").write_text("\n".join(rows))
    text = f"path: {folder.resolve()}\ntrain: images/train\nval: images/val\n"
    (folder / "shapes.yaml").write_text(text + "names: [square, circle]\n")
    return str(folder / "shapes.yaml")


def outline(row: str) -> str:
    """Return the label of a box as its four corners, clockwise."""
    kind, x, y, width, height = row.split()
    left, right = (float(x) + sign * float(width) / 2 for sign in (-1, 1))
    top, bottom = (float(y) + sign * float(height) / 2 for sign in (-1, 1))
    return f"{kind} {left} {top} {right} {top} {right} {bottom} {left} {bottom}"


def _draw(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: int) -> str:
    kind, side = int(rng.integers(2)), int(rng.integers(size // 5, size // 2))
    x, y = (int(v) for v in rng.integers(0, size - side, 2))
    box, colour = (x, y, x + side, y + side), tuple(int(v) for v in rng.integers(130, 256, 3))
    (draw.rectangle, draw.ellipse)[kind](box, fill=colour)
    centre = ((x + side / 2) / size, (y + side / 2) / size)
    return f"{kind} {centre[0]} {centre[1]} {side / size} {side / size}"
