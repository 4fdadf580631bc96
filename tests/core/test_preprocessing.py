import json

import pytest

from refiner.core.errors import RunError
from refiner.core.preprocessing import Preprocessing, preprocessing_of

PLAIN = Preprocessing(mean=(0.5,), std=(0.25,), size=(8, 6), source="the training images")
PHOTO = Preprocessing(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=(224, 224), resize=(256, 256),
    interpolation="bicubic", classes=("cat", "dog"), source="timm",
)  # fmt: skip


@pytest.mark.parametrize("prepared", [PLAIN, PHOTO])
def test_through_json(prepared) -> None:
    document = json.loads(json.dumps(prepared.to_json()))
    assert Preprocessing.from_json(document) == prepared
    assert preprocessing_of({"preprocessing": document}) == prepared


def test_only_the_common_fields_have_to_be_there() -> None:
    fields = ("mean", "std", "size", "classes", "source")
    document = {name: PLAIN.to_json()[name] for name in fields}
    assert Preprocessing.from_json(document) == PLAIN
    assert preprocessing_of({}) is preprocessing_of(None) is None


def test_in_words() -> None:
    assert str(PLAIN) == "1x8x6; mean 0.5; std 0.25; from the training images"
    words = "3x224x224, cut from the centre with the shorter side at 256 (bicubic); mean 0.485,"
    assert str(PHOTO).startswith(words)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [0.5, 0.5]}, {"mean": []}, {"mean": "half"}, {"std": [0]}, {"std": [float("nan")]},
        {"std": [None]}, {"size": [8]}, {"size": [8, 0]}, {"size": [8.5, 8]}, {"size": None},
        {"size": [True, 8]}, {"source": 7}, {"resize": [4, 4]}, {"interpolation": "system"},
        {"classes": [["a"]]}, {"classes": 3}, {"mean": [1e400]},
    ],
)  # fmt: skip
def test_a_damaged_document_is_refused(change) -> None:
    for document in ({**PLAIN.to_json(), **change}, list(change), None):
        with pytest.raises(RunError, match="is damaged"):
            Preprocessing.from_json(document)
