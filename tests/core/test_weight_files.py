import argparse
import io
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.weight_files import read_weights


def saved(value: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 1)), buffer)
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2))
    return buffer.getvalue()


STATE = {"weight": torch.ones(2)}
KINDS = {
    "empty": (b"", "is empty"),
    "git-lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "pointer of Git LFS",
    ),
    "web page": (b"\n<!DOCTYPE html><html></html>", "is a web page"),
    "text": (b"# my model\nversion 1\n", "text file that begins '# my model version 1'"),
    "text of another alphabet": ("Gewichte für später\n".encode() * 40, "is a text file"),
    "json": (b'{"a": 1}', "is a JSON file"),
    "deep json": (b"[" * 100000, "is a text file"),
    "index of parts": (b'{"weight_map": {}}', "lie in several files"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5"),
    "npy": (b"\x93NUMPY\x01", "array of NumPy"),
    "npz": (npz(), "arrays of NumPy"),
    "gzip": (b"\x1f\x8b\x08", "unpack it first"),
    "onnx": (b"\x08\x09\x12\x07pytorch\x1a", "is an ONNX model"),
    "image": (b"\x89PNG\r\n", "is an image"),
    "torchscript": (script(), "TorchScript archive"),
    "zip": (zipped(**{"readme.txt": b"x"}), "zip archive of other files"),
    "torch.export": (zipped(**{"archive/models/model.json": b"{}"}), "program of torch.export"),
    "keras": (zipped(**{"model.weights.h5": b""}), "model of Keras"),
    "cut off": (saved(STATE)[:-300], "cut off or damaged"),
    "cut safetensors": (save(STATE)[:-3], "damaged, or no file of weights"),
    "whole model": (saved(nn.Conv2d(1, 1, 1)), "holds a whole pickled model"),
    "objects": (saved({"args": argparse.Namespace(a=1)}), "objects of argparse.Namespace"),
    "a plain pickle": (b"\x80\x04]\x94.", "not a file of weights"),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_no_file_of_weights_is_told_by_what_it_is(kind: str, tmp_path) -> None:
    content, message = KINDS[kind]
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_the_content_decides_how_a_file_is_read(tmp_path) -> None:
    for content in (save(STATE), saved(STATE), saved(STATE, _use_new_zipfile_serialization=False)):
        for name in ("a.pt", "a.safetensors", "a.bin"):
            (tmp_path / name).write_bytes(content)
            assert torch.equal(read_weights(tmp_path / name)["weight"], torch.ones(2))


def test_places_that_hold_no_file(tmp_path) -> None:
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.pt", "there is no file"),
        (tmp_path / ("x" * 5000), "cannot be read"),
    ):
        with pytest.raises(ModelError, match=message):
            read_weights(path)


def test_objects_are_read_where_the_file_is_trusted_and_never_else(tmp_path) -> None:
    owned = tmp_path / "owned"

    class Evil:
        def __reduce__(self):
            return (open, (str(owned), "w"))

    file = tmp_path / "evil.pt"
    torch.save({"state_dict": STATE, "evil": Evil()}, file)
    with pytest.raises(ModelError, match="--trust-weights"):
        read_weights(file)
    assert not owned.exists()
    assert read_weights(file, trust=True)["state_dict"].keys() == STATE.keys()
    assert owned.exists()
