import json

import pytest
from models import TinyResNet, images

from refiner.core.errors import ArchitectureError
from refiner.space.architecture import Architecture
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


@pytest.fixture
def space():
    return search_space(TinyResNet(width=4), images())


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ((0, 0), "has 2 numbers"),
        ((0, 0, 0, 6), "no candidate 6"),
        ((0, -1, 0, 0), "no candidate -1"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(space, vector, message) -> None:
    with pytest.raises(ArchitectureError, match=message):
        space.architecture(vector)


def test_json_round_trip(space, tmp_path) -> None:
    architecture = space.architecture((1, 0, 2, 3))
    architecture.save(tmp_path / "a.json")
    loaded = Architecture.load(tmp_path / "a.json")
    assert loaded == architecture
    assert loaded.operations == ("depthwise3x3", "original", "maxpool3x3", "avgpool3x3")


def test_a_file_of_eighths_without_branches_is_still_read(tmp_path) -> None:
    # As it was written before slots could be branches, and ratios were eighths for every layer.
    model, x = TinyResNet(width=10), images()
    eighths = ["keep0.875", "keep0.5"]
    found = search_space(model, x, granularity="group", candidates=eighths).architecture((1, 2))
    document = json.loads(found.to_json())
    for slot in document["slots"]:
        assert slot.pop("is_branch")
    (tmp_path / "a.json").write_text(json.dumps(document))
    loaded = Architecture.load(tmp_path / "a.json")
    assert loaded.operations == ("keep0.875", "keep0.5")
    pruned = rewrite(model, loaded)
    assert pruned.block1.conv1.out_channels == 8  # 8.75, rounded down
    assert pruned.block2.conv1.out_channels == 10


def test_damaged_architecture_files_are_one_line(space, tmp_path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ArchitectureError, match="no file"):
        Architecture.load(path)
    for text in ("{", "[]", '{"format_version": 99}', '{"format_version": 1}'):
        path.write_text(text)
        with pytest.raises(ArchitectureError) as caught:
            Architecture.load(path)
        assert "\n" not in str(caught.value)
    document = json.loads(space.architecture((0,) * 4).to_json())
    document["vector"] = [0, 0, 0, 9]
    path.write_text(json.dumps(document))
    with pytest.raises(ArchitectureError, match="no candidate 9"):
        Architecture.load(path)
