"""Folders of made-up faces: each identity a pattern of its own, each image of it with other noise."""

import io
import pickle
from pathlib import Path

import numpy as np
from PIL import Image


def face(identity: int, number: int, size: int = 16) -> Image.Image:
    """Return image ``number`` of an identity."""
    pattern = np.random.default_rng(identity).integers(0, 200, (4, 4, 3))
    noise = np.random.default_rng((identity, number)).integers(0, 56, (size, size, 3))
    pixels = np.kron(pattern, np.ones((size // 4, size // 4, 1))) + noise
    return Image.fromarray(pixels.astype(np.uint8))


def make_faces(root: Path, *, identities: int = 4, images: int = 6, size: int = 16) -> Path:
    """Write train/P0 ... and, with other people and two folds of pairs, val/V0 ... and pairs.txt."""
    for i in range(identities):
        (root / "train" / f"P{i}").mkdir(parents=True)
        for j in range(images):
            face(i, j, size).save(root / "train" / f"P{i}" / f"{j}.png")
    for i in range(4):
        (root / "val" / f"V{i}").mkdir(parents=True)
        for j in (1, 2):
            face(100 + i, j, size).save(root / "val" / f"V{i}" / f"V{i}_{j:04d}.png")
    folds = [
        "V0\t1\t2\nV1\t1\t2\nV0\t1\tV1\t1\nV0\t2\tV1\t2",
        "V2\t1\t2\nV3\t1\t2\nV2\t1\tV3\t1\nV2\t2\tV3\t2",
    ]
    (root / "pairs.txt").write_text("2\t2\n" + "\n".join(folds) + "\n")
    return root


def make_pack(path: Path, size: int = 16) -> Path:
    """Write a .bin pack of ten same and ten different pairs, in turn."""
    encoded, same = [], []
    for i in range(20):
        for identity, number in ((200 + i, 1), (200 + i, 2) if i % 2 == 0 else (300 + i, 1)):
            buffer = io.BytesIO()
            face(identity, number, size).save(buffer, format="PNG")
            encoded.append(buffer.getvalue())
        same.append(i % 2 == 0)
    path.write_bytes(pickle.dumps((encoded, same)))
    return path
