import pytest
import torch
from models import PlainNet, TinyResNet, images
from torch import nn

from refiner.core.errors import ArchitectureError, ConfigError, ModelError
from refiner.graph.conv_spec import conv_spec
from refiner.space.architecture import Architecture
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space, space_of

DEFAULT = ("original", "depthwise3x3", "maxpool3x3", "avgpool3x3", "lowrank2", "lowrank4")


@pytest.fixture
def space():
    return search_space(TinyResNet(width=4), images())


def test_index_0_is_the_original_and_the_rest_keep_the_order_named(space) -> None:
    assert space.candidates == (
        DEFAULT[:-1],
        DEFAULT[:-1],
        DEFAULT,
        DEFAULT,
    )  # 36 * 4 // (4 * 40) = 0
    assert space.size == 5**2 * 6**2
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


def test_parameters_of_an_original_by_hand() -> None:
    assert conv_spec(nn.Conv2d(8, 16, 3, groups=2)).parameters == 16 * 4 * 9 + 16


def test_the_space_of_an_architecture_has_the_shapes_of_the_new_input(tmp_path) -> None:
    model = TinyResNet()
    space = search_space(model, images())
    space.architecture((1, 0, 2, 3)).save(tmp_path / "a.json")
    architecture = Architecture.load(tmp_path / "a.json")
    same = space_of(architecture, model, images())
    assert (same.slots, same.candidates, same.granularity) == (
        space.slots,
        space.candidates,
        "conv",
    )
    larger = space_of(architecture, model, torch.randn(2, 3, 32, 32))
    for before, after in zip(space.slots, larger.slots):
        assert [4 * n for n in before.sites[0].in_shape[2:]] == list(after.sites[0].in_shape[2:])
        assert before.sites[0].spec == after.sites[0].spec
    with pytest.raises(ArchitectureError, match="not a slot of PlainNet"):
        space_of(architecture, PlainNet(), images())


def test_pointwise_convs_are_slots_where_all_are_asked_for() -> None:
    import timm

    model, x = timm.create_model("regnetx_002"), torch.zeros(1, 3, 32, 32)
    some, every = (search_space(model, x, granularity=g) for g in ("conv", "all"))
    convs = {s.conv for slot in every.slots for s in slot.sites}
    assert {s.conv for slot in some.slots for s in slot.sites} < convs
    assert "s3.b2.conv1.conv" in convs
    names = every.candidates[[slot.name for slot in every.slots].index("s3.b2.conv1.conv")]
    assert names == ("original", "lowrank2", "lowrank4", "shuffle2", "shuffle4", "identity")
    architecture = every.architecture([len(names) - 1 for names in every.candidates])
    assert space_of(architecture, model, x).slots == every.slots


@pytest.mark.parametrize("inner", [lambda conv: conv, nn.utils.parametrizations.weight_norm])
def test_a_conv_with_spectral_norm_in_train_mode_is_a_slot_and_keeps_its_buffers(inner) -> None:
    conv = nn.Conv2d(8, 8, 3)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.utils.parametrizations.spectral_norm(inner(conv)), nn.Conv2d(8, 8, 3)
    )
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    space = search_space(model, torch.randn(2, 3, 12, 12))
    assert [slot.name for slot in space.slots] == ["1", "2"]
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_default_candidates_of_groups_follow_the_layer() -> None:
    model, x = TinyResNet(width=16), images()
    space = search_space(model, x, granularity="group")
    paper = ("depthwise3x3", "maxpool3x3", "avgpool3x3")
    thirds = ("keep0.75", "keep0.5", "keep0.25")  # 12, 8 and 4 of 16; 24, 16 and 8 of 32
    assert space.candidates == (("original", *thirds, "no_branch", *paper),) * 2
    finer = search_space(model, x, granularity="group", channel_multiple=2)
    assert [len([n for n in names if "keep" in n]) for names in finer.candidates] == [7, 15]
    with pytest.raises(ConfigError, match="channel_multiple is 0. Give 1 or more"):
        search_space(model, x, granularity="group", channel_multiple=0)


def test_any_keep_ratio_can_be_named() -> None:
    model, x = TinyResNet(width=16), images()
    names = ["keep0.5", "keep0.3"]
    space = search_space(model, x, granularity="group", candidates=names)
    assert space.candidates == (("original", *names),) * 2
    pruned = rewrite(model, space.architecture((1, 2)))
    assert pruned.block1.conv1.out_channels == 8
    assert pruned.block2.conv1.out_channels == 9
