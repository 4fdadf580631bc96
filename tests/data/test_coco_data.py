import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from refiner.core.detection_batches import is_detection
from refiner.core.errors import DataError
from refiner.core.randomness import seeded
from refiner.data.coco_data import FILE, CocoImages, coco_data

BOXES = [[2, 3, 4, 5, 1, 0], [10, 0, 40, 6, 3, 0], [1, 1, 5, 5, 3, 1], [4, 4, 0, 5, 1, 0]]
"""x, y, width, height, category and crowd; the second ends outside, the last has no area."""


def part(folder: Path, count: int = 3) -> Path:
    """Write images of 20 x 12 with the boxes; the last image has none."""
    folder.mkdir(parents=True)
    rows = [(i, box) for i in range(count - 1) for box in BOXES]
    document = {
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(count)],
        "annotations": [
            {"image_id": i, "bbox": box[:4], "category_id": box[4], "iscrowd": box[5]}
            for i, box in rows
        ],
    }
    (folder / FILE).write_text(json.dumps(document))
    for i in range(count):
        image = Image.new("RGB", (20, 12))
        image.putpixel((2, 3), (255, 0, 0))
        image.save(folder / f"{i}.png")
    return folder


def test_the_parts_are_those_of_the_folders(tmp_path) -> None:
    for name, count in (("train", 5), ("valid", 3), ("test", 2)):
        part(tmp_path / name, count)
    data = coco_data(str(tmp_path), batch_size=2, limit=None, seed=0)
    assert data.classes == ("background", "cat", "unused 2", "dog")
    assert [len(each.dataset) for each in (data.train, data.val, data.test)] == [5, 3, 2]
    assert all(is_detection(batch) for batch in data.train)
    fewer = coco_data(str(tmp_path), batch_size=2, limit=3, seed=0)
    assert [len(each.dataset) for each in (fewer.train, fewer.val, fewer.test)] == [3, 3, 2]


def test_boxes_end_at_the_image_and_crowds_are_marked(tmp_path) -> None:
    image, target = CocoImages(part(tmp_path / "val"), train=False)[0]
    assert image.shape == (3, 12, 20)
    assert image[:, 3, 2].tolist() == [1, 0, 0]
    assert target["boxes"].tolist() == [[2, 3, 6, 8], [10, 0, 20, 6], [1, 1, 6, 6]]
    assert target["labels"].tolist() == [1, 3, 3]
    assert target["iscrowd"].tolist() == [0, 0, 1]
    empty = CocoImages(tmp_path / "val", train=False)[2][1]
    assert empty["boxes"].shape == (0, 4)
    assert empty["labels"].shape == (0,)


def test_training_images_are_flipped_with_their_boxes(tmp_path) -> None:
    images, seen = CocoImages(part(tmp_path / "train"), train=True), set()
    for seed in range(8):
        with seeded(seed):
            image, target = images[0]
        x = int(image[0, 3].argmax())
        seen.add(x)
        left = 2 if x == 2 else 20 - 6
        assert target["boxes"][0].tolist() == [left, 3, left + 4, 8]
        assert len(target["boxes"]) == 2, "no crowd"
    assert seen == {2, 17}


@pytest.mark.parametrize(("size", "shape"), [((20, 12), (12, 20)), ((12, 20), (20, 12))])
def test_an_image_is_turned_only_where_its_boxes_are(tmp_path, size, shape) -> None:
    folder = part(tmp_path / "val")
    turned = Image.Exif()
    turned[0x0112] = 6  # upright, it is 12 wide and 20 high
    Image.new("RGB", (20, 12)).save(folder / "0.png", exif=turned)
    document = json.loads((folder / FILE).read_text())
    document["images"][0] |= {"width": size[0], "height": size[1]}
    (folder / FILE).write_text(json.dumps(document))
    assert CocoImages(folder, train=False)[0][0].shape[1:] == shape


def test_a_size_or_a_category_that_does_not_fit_is_named(tmp_path) -> None:
    for name in ("train", "val"):
        part(tmp_path / name)
    file = tmp_path / "val" / FILE
    whole = json.loads(file.read_text())
    whole["images"][0] |= {"width": 200, "height": 120}
    file.write_text(json.dumps(whole))
    with pytest.raises(DataError, match=r"0\.png has 20 x 12 pixels, and .* says 200 x 120"):
        CocoImages(tmp_path / "val", train=False)[0]
    whole["categories"][0]["name"] = "dog"
    file.write_text(json.dumps(whole))
    with pytest.raises(DataError, match="category 1 is 'cat' in train and 'dog' in val"):
        coco_data(str(tmp_path), batch_size=2, limit=None, seed=0)


def test_what_is_missing_or_wrong_is_named(tmp_path) -> None:
    def load():
        return coco_data(str(tmp_path), batch_size=2, limit=None, seed=0)

    with pytest.raises(DataError, match=f"holds no train with {FILE}"):
        load()
    file = part(tmp_path / "train") / FILE
    with pytest.raises(DataError, match=r"holds no val or valid or validation"):
        load()
    part(tmp_path / "val")
    whole = json.loads(file.read_text())
    for change, message in (
        ({"images": [{"id": 0, "file_name": "no.png"}], "annotations": []}, "lacks 1 images"),
        ({"annotations": []}, "has no box"),
        ({"annotations": [{"bbox": [1, 2, 3]}]}, "is not valid COCO JSON"),
        ({"annotations": [{**whole["annotations"][0], "category_id": 2}]}, "no category 2"),
        ({"annotations": [{**whole["annotations"][0], "image_id": 9}]}, "there is no image 9"),
        ({"categories": [*whole["categories"], {"id": 10**7, "name": "x"}]}, "out of range"),
    ):
        file.write_text(json.dumps({**whole, **change}))
        with pytest.raises(DataError, match=message):
            load()
    deep = "[" * 10**5
    for text, message in (
        ("{", "cannot be read"),
        (deep, "cannot be read"),
        ("[]", "no annotations in COCO's format"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            load()
    file.write_text(json.dumps(whole))
    (tmp_path / "train" / "0.png").write_text("no image")
    with pytest.raises(DataError, match=r"0\.png cannot be read"):
        list(load().train)
    assert torch.is_tensor(next(iter(load().val))[0][0])
