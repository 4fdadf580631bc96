import builtins
import io
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from face_folders import face, make_pack
from PIL import Image

from refiner.errors import DataError
from refiner.face_pairs import find_pairs, load_pairs, pair_tests, read_bin, read_pairs
from refiner.verification import verification


def picture(value, size=(6, 5), fmt="PNG"):
    """Return the bytes of an encoded image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 255 - value)).save(buffer, format=fmt)
    return buffer.getvalue()


def colours(images):
    return images[:, 0, 0, 0].tolist()


@pytest.fixture
def people(tmp_path):
    """Ann with images 1 to 3, Bo with 1 and 12, Cy with 1; each file in another form."""
    for name, number, suffix in (
        ("Ann", 1, ".png"),
        ("Ann", 2, ".PNG"),
        ("Ann", 3, ".bmp"),
        ("Bo", 1, ".png"),
        ("Bo", 12, ".png"),
        ("Cy", 1, ".tiff"),
    ):
        folder = tmp_path / "val" / name
        folder.mkdir(parents=True, exist_ok=True)
        value = {"Ann": 10, "Bo": 100, "Cy": 200}[name] + number
        Image.new("RGB", (6, 5), (value, 0, 0)).save(folder / f"{name}_{number:04d}{suffix}")
    (tmp_path / "val" / "Ann" / "Ann_0001.txt").write_text("no image")
    return tmp_path


def listed(people, text, **options):
    path = people / "pairs.txt"
    path.write_text(text, "utf-8")
    return read_pairs(path, people / "val", size=(5, 6), **options)


def test_two_folds_of_a_list(people) -> None:
    pairs = listed(
        people, "2\t1\nAnn\t1\t2\nAnn\t1\tBo\t12\nBo\t1\t12\nBo\t1\tCy\t1\n"
    )  # of six images, Ann's third is in no pair
    assert pairs.images.dtype is torch.uint8
    assert pairs.images.shape == (5, 3, 5, 6)
    values = np.array(colours(pairs.images))
    assert values[pairs.first].tolist() == [11, 11, 101, 101]
    assert values[pairs.second].tolist() == [12, 112, 112, 201]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1]
    assert pairs.first.dtype == pairs.second.dtype == pairs.folds.dtype == np.int64


def test_one_number_is_one_fold_and_spaces_and_blank_ends_do(people) -> None:
    pairs = listed(
        people, "2\r\nAnn 1 2\r\nAnn 3 2\r\nAnn 1 Bo 1\r\nAnn 2 Cy 1\r\n\r\n", channels=1
    )
    assert pairs.images.shape[:2] == (5, 1)
    assert pairs.same.tolist() == [True, True, False, False]
    assert pairs.folds.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is ''"),
        ("ten 300\n", "line 1 is 'ten 300'"),
        ("0 300\n", "line 1"),
        ("1 2 3\n", "line 1"),
        ("1\nAnn 1 2\n", "1 lines of pairs, .* 1 folds of 1 same and 1 different ones: 2"),
        ("1\nAnn 1 2\nAnn 1 x Bo 1\n", "line 3 is 'Ann 1 x Bo 1'"),
        ("1\nAnn 1 2\nAnn 1 2\n", "line 3 .* different pair"),
        ("1\nAnn 1 Bo 1\nAnn 1 2\n", "line 2 .* same pair"),
        ("1\nAnn one 2\nAnn 1 Bo 1\n", "line 2"),
        ("1\nAnn 1 -2\nAnn 1 Bo 1\n", "line 2"),
        ("1\nAnn 1 2\n\n", "1 lines"),
        ("1\nAnn 1 2\nAnn 1 Bo 2\n", "line 3 names the image Bo/Bo_0002"),
        ("1\nAnn 1 2\nAnn 1 Dee 1\n", "line 3 names the image Dee/Dee_0001"),
        ("1\nAnn 1 2\nAnn 1 ../val/Bo 1\n", "line 3 names"),
        ("1\nAnn 1 2\nAnn 1 /etc 1\n", "line 3 names"),
        ("1\nAnn 1 2\n[B]o 1 * 1\n", "line 3 names"),
    ],
)
def test_an_error_in_a_list_names_the_line(people, text, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        listed(people, text)
    assert "pairs.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_that_are_no_text(people) -> None:
    with pytest.raises(DataError, match="there is no file .*gone.txt"):
        read_pairs(people / "gone.txt", people)
    (people / "bad.txt").write_bytes(b"1\n\xff\xfe\n")
    with pytest.raises(DataError, match="bad.txt cannot be read"):
        read_pairs(people / "bad.txt", people)


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
        with pytest.raises(DataError, match="image 1 of .*pack.bin is no readable JPEG or PNG"):
            read_bin(written(tmp_path, pickle.dumps(([IMAGES[0], bad], [True]))))


LIST = "1\nAnn\t1\t2\nAnn\t1\tBo\t12\n"


def test_the_folder_of_a_list_is_named_or_val_or_its_own(people) -> None:
    (people / "pairs.txt").write_text(LIST)
    (people / "val" / "own.txt").write_text(LIST)
    (people / "elsewhere").mkdir()
    (people / "elsewhere" / "far.txt").write_text(LIST)
    sources = (
        people / "pairs.txt",
        people / "val" / "own.txt",
        f"{people}/elsewhere/far.txt:{people}/val",
    )
    for source in sources:
        pairs = load_pairs(source, size=(5, 6))
        assert colours(pairs.images) == [11, 12, 112]
    with pytest.raises(DataError, match="which .*elsewhere lacks"):
        load_pairs(people / "elsewhere" / "far.txt")
    assert find_pairs(people) == [people / "pairs.txt"]


def test_a_pack_is_known_by_its_suffix_and_may_be_gray(tmp_path) -> None:
    path = make_pack(tmp_path / "x.bin")
    assert load_pairs(path).images.shape[1:] == (3, 112, 112)
    gray = load_pairs(path, channels=1, size=(16, 16)).images
    assert gray.shape == (40, 1, 16, 16)
    assert torch.equal(gray[0, 0], torch.from_numpy(np.asarray(face(200, 1).convert("L")).copy()))
    assert find_pairs(tmp_path) == [path]


def test_pair_tests_measure_what_verification_does(people, tmp_path) -> None:
    make_pack(people / "y.bin")
    (people / "other").mkdir()
    make_pack(people / "other" / "y.bin")
    (people / "pairs.txt").write_text(LIST)
    sources = [people / "pairs.txt", people / "y.bin", people / "other" / "y.bin"]
    half = torch.tensor([0.5])
    model = torch.nn.Flatten()
    model.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))
    tests = pair_tests(model, sources, size=(8, 8), mean=half, std=half)
    assert list(tests) == [
        "accuracy on pairs.txt",
        f"accuracy on {people / 'y.bin'}",
        f"accuracy on {people / 'other' / 'y.bin'}",
    ]
    found = verification(
        model, load_pairs(sources[1], size=(8, 8)), mean=half, std=half, device=torch.device("cpu")
    )
    assert list(tests.values())[1](model) == found.accuracy
    assert found.accuracy > 0.9  # the pixels of these faces tell them apart
    with pytest.raises(DataError, match="verification wants embeddings"):
        pair_tests(torch.nn.Identity(), sources, mean=half, std=half)
