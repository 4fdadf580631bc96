import pytest
import timm
from models import TinyResNet, batches, images

import refiner
from refiner.core.errors import ConfigError, ModelError
from refiner.space.chosen_layers import matches


def space_of(**options):
    return refiner.search_space(TinyResNet(), images(), granularity="group", **options)


def names(space) -> list[str]:
    return [site.conv for slot in space.slots for site in slot.sites]


def test_a_name_takes_its_module_and_all_in_it() -> None:
    assert matches("layer3.0.conv1", ["layer3"])
    assert not matches("layer30.conv1", ["layer3"])
    assert matches("layer3.0.conv1", ["layer2", "*.conv1"])
    assert not matches("layer3.0.conv1", [])


def test_layers_that_are_not_chosen_are_frozen_with_the_reason() -> None:
    everything = space_of()
    only = space_of(only=["block1"])
    assert names(only) == [n for n in names(everything) if n.startswith("block1.")]
    reasons = {f.name: f.reason for f in only.frozen}
    assert {reasons[n] for n in names(everything) if n.startswith("block2.")} == {
        "not named with only"
    }
    skip = space_of(skip=["block1"])
    assert names(skip) == [n for n in names(everything) if not n.startswith("block1.")]
    assert {f.reason for f in skip.frozen if f.name.startswith("block1.")} == {"named with skip"}
    both = space_of(only=["block1", "block2"], skip=["block2.*"])
    assert names(both) == names(only)


def test_a_group_of_which_a_conv_stays_is_split() -> None:
    assert [slot.name for slot in space_of().slots] == ["block1", "block2"]
    space = space_of(skip=["*.conv2"])
    assert [slot.name for slot in space.slots] == ["block1.conv1", "block2.conv1"]
    assert not any(slot.is_group for slot in space.slots)


def test_a_conv_that_is_no_slot_still_keeps_its_channels_where_the_user_says_so() -> None:
    model, x = timm.create_model("tf_mobilenetv3_small_minimal_100"), images(size=32)
    name = "blocks.1.0"

    def groups(**chosen: list[str]) -> list[str]:
        space = refiner.search_space(model, x, granularity="group", **chosen)
        return [slot.name for slot in space.slots if slot.is_group]

    assert name in groups()
    assert name not in groups(skip=[f"{name}.conv_dw"])
    assert name not in groups(only=["*.conv_pw", "*.conv_pwl"])


def test_a_pattern_of_no_conv_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no conv has a name like 'block1.conv3'. Did you mean"):
        space_of(skip=["block1.conv3"])
    with pytest.raises(ConfigError, match="only is 'block1'. Give a list"):
        space_of(only="block1")
    with pytest.raises(ConfigError, match="a name like 'blok2'. Did you mean block2?"):
        space_of(only=["blok2"])
    with pytest.raises(ConfigError, match="skip is 5. Give a list"):
        space_of(skip=5)
    with pytest.raises(ModelError, match="x named with skip.*fewer with skip"):
        space_of(skip=["*"])


def test_a_run_leaves_the_layers_alone() -> None:
    model = TinyResNet()
    result = refiner.refine(
        model, batches(2), batches(1), budget="macs=90%", skip=["block1"], only=None, progress=False,
        baselines=False, candidates=["avgpool3x3", "depthwise3x3"],
        search=refiner.SearchConfig(epochs=1, warmup_epochs=0, trials=2, samples=2, top_k=1, front=0),
    )  # fmt: skip
    before, after = dict(model.named_modules()), dict(result.model.named_modules())
    assert str(after["block1"]) == str(before["block1"])
    assert str(after["block2"]) != str(before["block2"])
