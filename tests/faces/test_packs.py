import builtins
import io
import os
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from refiner.core.errors import DataError
from refiner.faces.packs import read_bin


def picture(value, size=(6, 5), fmt="PNG"):
    """Return the bytes of an encoded image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255 - value)).save(buffer, format=fmt)
    return buffer.getvalue()


def colours(images):
    return images[:, 0, 0, 0].tolist()


def written(tmp_path, content):
    path = tmp_path / "pack.bin"
    path.write_bytes(content)
    return path


def python_2(images, same):
    """The opcodes that Python 2's pickle writes with protocol 2 for a tuple of these lists."""
    content = b"\x80\x02]("
    for image in images:
        content += b"T" + struct.pack("<i", len(image)) + image  # BINSTRING, which is str there
    return content + b"e](" + b"".join(b"\x88" if value else b"\x89" for value in same) + b"e\x86."


def python_2_text(images, same):
    """The same with its protocol 0: quoted strings, and bools as I01 and I00."""
    content = b"(lp0\n"
    for image in images:
        content += b"S'" + "".join(f"\\x{byte:02x}" for byte in image).encode() + b"'\na"
    content = b"(" + content + b"(lp1\n"
    return content + b"".join(b"I01\na" if value else b"I00\na" for value in same) + b"t."


IMAGES = [picture(v) for v in (1, 2, 1, 3, 4, 5)]
SAME = [True, False, False]


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps((IMAGES, SAME), protocol=0),
        pickle.dumps((IMAGES, SAME), protocol=2),
        pickle.dumps((IMAGES, SAME), protocol=4),
        pickle.dumps([IMAGES, SAME], protocol=5),
        python_2(IMAGES, SAME),
        python_2_text(IMAGES, SAME),
    ],
    ids=["0", "2", "4", "5", "python 2", "python 2, protocol 0"],
)
def test_packs_of_every_protocol(tmp_path, content) -> None:
    pairs = read_bin(written(tmp_path, content))
    assert pairs.images.shape == (5, 3, 5, 6)  # the first and the third are one
    assert colours(pairs.images) == [1, 2, 3, 4, 5]
    assert pairs.first.tolist() == [0, 0, 3]
    assert pairs.second.tolist() == [1, 2, 4]
    assert pairs.same.tolist() == SAME
    assert pairs.folds.tolist() == [0, 1, 2]


def test_folds_are_ten_runs(tmp_path) -> None:
    images = [picture(i) for i in range(46)]
    pairs = read_bin(
        written(tmp_path, pickle.dumps((images, [True, False, True] * 7 + [False] * 2)))
    )
    assert np.bincount(pairs.folds).tolist() == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert (np.diff(pairs.folds) >= 0).all()


def test_sizes_of_a_pack(tmp_path) -> None:
    images = [picture(1), picture(2, size=(12, 10))]
    path = written(tmp_path, pickle.dumps((images, [True])))
    assert read_bin(path, size=(4, 3)).images.shape == (2, 3, 4, 3)
    with pytest.raises(DataError, match="image 1 of .* is 10 x 12, .* 5 x 6"):
        read_bin(path)


def test_jpeg_and_grey_images(tmp_path) -> None:
    grey = io.BytesIO()
    Image.new("L", (6, 5), 77).save(grey, format="PNG")
    images = [picture(200, fmt="JPEG"), grey.getvalue()]
    pairs = read_bin(written(tmp_path, pickle.dumps((images, [False]))))
    assert pairs.images[0, 0].float().mean() == pytest.approx(200, abs=2)
    assert pairs.images[1].unique().tolist() == [77]


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pack_that_would_run_code_is_refused_and_nothing_runs(tmp_path, protocol) -> None:
    trace = tmp_path / "trace"
    for evil, name in (
        (Calls(os.system, f"touch {trace}"), "system"),
        (Calls(builtins.eval, f"open({str(trace)!r}, 'w')"), "eval"),
        (Calls(builtins.getattr, "a", "upper"), "getattr"),
        (np.zeros(3), "numpy"),
    ):
        for pack in (([evil], [True]), evil, (IMAGES, [evil])):
            content = pickle.dumps(pack, protocol=protocol)
            with pytest.raises(DataError, match=rf"pack.bin cannot be read .*asks for .*{name}"):
                read_bin(written(tmp_path, content))
    assert not trace.exists()
    pickle.loads(pickle.dumps(Calls(os.system, f"touch {trace}")))
    assert trace.exists()  # so such a pickle does run where it is let


def test_the_one_function_that_is_known_does_nothing_else(tmp_path) -> None:
    encode = b"c_codecs\nencode\n"
    for content, message in (
        (encode + b"(Vabc\nVutf-7\ntR.", "encodes something else"),
        (encode + b"(I1\nVlatin1\ntR.", "encodes something else"),
        (encode + b"(Vabc\ntR.", "TypeError"),
        (encode + b"}Vtext\nI1\nsb.", "AttributeError"),  # BUILD: sets an attribute
        (encode + b".", "two lists"),
        (b"c_codecs\ndecode\n.", "_codecs.decode"),
        (b"\x80\x04\x8c\x07_codecs\x8c\x10encode.__class__\x93.", "encode.__class__"),
        (b"Pmine\n.", "persistent object"),
        (b"\x80\x02\x82\x01.", "extension"),
    ):
        with pytest.raises(DataError, match=message):
            read_bin(written(tmp_path, content))


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        ((IMAGES, SAME, SAME), "two lists"),
        ({"images": IMAGES}, "two lists"),
        ((tuple(IMAGES), SAME), "two lists"),
        (IMAGES[0], "two lists"),
        (None, "two lists"),
        ((["text"] * 6, SAME), "images as bytes"),
        (([IMAGES] * 6, SAME), "images as bytes"),
        ((IMAGES, [1, 0, 0]), "bools"),
        ((IMAGES, [b"1"] * 3), "bools"),
        ((IMAGES[:5], SAME), "5 images and 3 bools"),
        (([], []), "0 images and 0 bools"),
    ],
)
def test_packs_of_another_form(tmp_path, pack, message) -> None:
    with pytest.raises(DataError, match=f"pack.bin does not hold .*{message}"):
        read_bin(written(tmp_path, pickle.dumps(pack)))


def test_damaged_packs(tmp_path) -> None:
    whole = pickle.dumps((IMAGES, SAME))
    damaged = [whole[: len(whole) * k // 7] for k in range(7)]
    damaged += [b"not a pickle", b"\x80\x04\x8e" + b"\xff" * 8, b"\x80\x63."]
    for content in damaged:
        with pytest.raises(DataError, match="pack.bin cannot be read") as caught:
            read_bin(written(tmp_path, content))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="there is no file .*gone.bin"):
        read_bin(tmp_path / "gone.bin")


def test_an_image_that_cannot_be_read_is_named(tmp_path) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n%%EndComments\n"
    for bad in (b"", b"no image", IMAGES[0][:45], postscript):
        with pytest.raises(DataError, match="image 1 of .*pack.bin is not a readable JPEG or PNG"):
            read_bin(written(tmp_path, pickle.dumps(([IMAGES[0], bad], [True]))))
