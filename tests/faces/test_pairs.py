import numpy as np
import pytest
import torch
from face_folders import face, make_pack
from PIL import Image

from refiner.core.errors import DataError
from refiner.faces.pairs import find_pairs, load_pairs, pair_tests, read_pairs
from refiner.faces.verification import verification


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
