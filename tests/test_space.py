import json

import pytest
from models import TinyResNet, images
from torch import nn

from refiner.errors import ArchitectureError, ConfigError, ModelError
from refiner.slots import conv_spec
from refiner.space import Architecture, original_parameters, search_space

PAPER = ("original", "depthwise3x3", "maxpool3x3", "avgpool3x3")


@pytest.fixture
def space():
    return search_space(TinyResNet(width=4), images())


def test_index_0_is_the_original_and_the_rest_keep_the_order_named(space) -> None:
    assert space.candidates == (PAPER,) * 4
    assert space.size == 4**4
    other = search_space(TinyResNet(), images(), candidates=["avgpool3x3", "conv3x3", "maxpool3x3"])
    assert other.candidates[0] == ("original", "avgpool3x3", "maxpool3x3")


def test_larger_candidates_are_left_out_unless_allowed() -> None:
    model, names = TinyResNet(width=4), ["conv5x5", "depthwise5x5"]
    # block1: 4x4x9 = 144 weights against 4x25 + 4x4 = 116 of depthwise5x5.
    assert search_space(model, images(), candidates=names).candidates[0] == (
        "original",
        "depthwise5x5",
    )
    larger = search_space(model, images(), candidates=names, allow_larger=True)
    assert larger.candidates[0] == ("original", "conv5x5", "depthwise5x5")


def test_a_conv_without_an_admissible_candidate_is_frozen() -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, padding=1)
            self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.dense = nn.Conv2d(16, 16, 3, padding=1)

        def forward(self, x):
            return self.dense(self.depthwise(self.stem(x)))

    space = search_space(Grouped(), images())
    assert [s.name for s in space.slots] == ["dense"]
    assert "no admissible candidate" in {f.name: f.reason for f in space.frozen}["depthwise"]


def test_models_with_nothing_to_refine_are_refused() -> None:
    with pytest.raises(ModelError, match="has no convs"):
        search_space(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), images())
    with pytest.raises(ModelError, match="1 x stem"):
        search_space(nn.Sequential(nn.Conv2d(3, 4, 3)), images())


def test_unknown_or_repeated_candidates() -> None:
    with pytest.raises(ConfigError, match="conv7x7"):
        search_space(TinyResNet(), images(), candidates=["conv7x7"])
    with pytest.raises(ConfigError, match="named twice"):
        search_space(TinyResNet(), images(), candidates=["maxpool3x3", "maxpool3x3"])


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ((0, 0), "has 2 numbers"),
        ((0, 0, 0, 4), "no candidate 4"),
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


def test_parameters_of_an_original_by_hand() -> None:
    assert original_parameters(conv_spec(nn.Conv2d(8, 16, 3, groups=2))) == 16 * 4 * 9 + 16
