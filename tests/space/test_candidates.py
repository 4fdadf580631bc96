import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from refiner.core.errors import ConfigError
from refiner.graph.conv_spec import conv_spec
from refiner.space import candidates as module
from refiner.space.candidates import Candidate, candidate_names, get_candidate, register_candidate

BUILT_IN = [name for name in candidate_names() if isinstance(get_candidate(name), Candidate)]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(BUILT_IN),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.integers(1, 3),
    padding=st.one_of(st.integers(0, 4), st.just("same")),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(7, 17), st.integers(7, 17)),
    mode=st.sampled_from(["zeros", "reflect"]),
)
def test_every_candidate_has_the_exact_output_shape_and_finite_values(
    name, kernel, stride, padding, dilation, size, mode
) -> None:
    if padding == "same":
        stride = 1
    else:
        assume(all(n + 2 * padding >= dilation * (k - 1) + 1 for n, k in zip(size, kernel)))
    conv = nn.Conv2d(4, 4, kernel, stride, padding, dilation, padding_mode=mode)
    x = torch.randn(2, 4, *size)
    candidate = get_candidate(name)
    assume(candidate.fits(conv_spec(conv)) or name.startswith("conv"))
    built = candidate.build(conv_spec(conv))
    try:
        expected = conv(x)
    except RuntimeError:
        assume(False)  # torch cannot reflect so far
    try:
        output = built(x)
    except RuntimeError as error:
        assert mode == "reflect"
        assert "adding" in str(error)
        return
    assert output.shape == expected.shape
    assert output.isfinite().all()


def test_parameters_by_hand() -> None:
    spec = conv_spec(nn.Conv2d(8, 16, 3, 2, 1, bias=False))
    expected = {
        "conv5x5": 8 * 16 * 25,
        "depthwise3x3": 8 * 9 + 8 * 16,
        "depthwise5x5": 8 * 25 + 8 * 16,
        "maxpool3x3": 8 * 16,
        "avgpool3x3": 8 * 16,
    }
    assert {n: parameters(get_candidate(n).build(spec)) for n in expected} == expected


def test_a_bias_stays_a_bias() -> None:
    spec = conv_spec(nn.Conv2d(4, 6, 3, padding=1))
    assert parameters(get_candidate("maxpool3x3").build(spec)) == 4 * 6 + 6


def test_plain_pools_have_no_parameters_and_want_equal_channels() -> None:
    spec = conv_spec(nn.Conv2d(4, 4, 3, padding=1))
    x = torch.arange(32.0).reshape(1, 4, 2, 4)
    average = get_candidate("plain_avgpool3x3").build(spec)
    assert parameters(average) == 0
    # The zeros of the padding count, as they do in a conv.
    assert float(average(x)[0, 0, 0, 0]) == pytest.approx((0 + 1 + 4 + 5) / 9)
    assert not get_candidate("plain_maxpool3x3").fits(conv_spec(nn.Conv2d(4, 8, 3)))


def test_a_conv_of_the_slots_own_kernel_is_not_offered() -> None:
    assert not get_candidate("conv3x3").fits(conv_spec(nn.Conv2d(4, 4, 3)))
    assert get_candidate("conv3x3").fits(conv_spec(nn.Conv2d(4, 4, 5)))
    assert get_candidate("conv3x3").fits(conv_spec(nn.Conv2d(4, 4, (1, 3))))


@pytest.mark.parametrize("dims", [1, 3])
def test_candidates_generalise_over_dimensions(dims: int) -> None:
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[dims](4, 4, 3, 2, 1)
    x = torch.randn(2, 4, *[7] * dims)
    offered = [name for name in BUILT_IN if get_candidate(name).fits(conv_spec(conv))]
    assert {"shuffle2", "depthwise3x3", "plain_maxpool3x3"} <= set(offered)
    for name in offered:
        assert get_candidate(name).build(conv_spec(conv))(x).shape == conv(x).shape, name


def test_register_your_own(monkeypatch) -> None:
    monkeypatch.setattr(module, "_TABLE", dict(module._TABLE))
    register_candidate("pointwise", lambda spec: nn.Conv2d(spec.in_channels, spec.out_channels, 1))
    assert "pointwise" in candidate_names()
    assert get_candidate("pointwise").about == ""
    with pytest.raises(ConfigError, match="registered already"):
        register_candidate("pointwise", lambda spec: nn.Identity())


def test_unknown_candidate_names_the_known() -> None:
    with pytest.raises(ConfigError, match="depthwise3x3"):
        get_candidate("conv9x9")


def test_three_dimensions_and_inputs_smaller_than_the_kernel() -> None:
    spec = conv_spec(nn.Conv3d(4, 6, 3, padding=1))
    x = torch.randn(2, 4, 2, 5, 5)
    for name in ("depthwise3x3", "maxpool3x3", "avgpool3x3"):
        assert get_candidate(name).build(spec)(x).shape == (2, 6, 2, 5, 5), name


def test_parameters_of_what_pointwise_and_grouped_convs_are_offered_by_hand() -> None:
    pointwise = conv_spec(nn.Conv2d(24, 8, 1))
    assert parameters(get_candidate("lowrank2").build(pointwise)) == 3 * 24 + 3 * 8 + 8
    spatial = conv_spec(nn.Conv2d(16, 16, 3, padding=1, bias=False))
    assert parameters(get_candidate("lowrank2").build(spatial)) == 7 * (16 * 9 + 16)
    assert parameters(get_candidate("lowrank4").build(spatial)) == 3 * (16 * 9 + 16)
    assert parameters(get_candidate("shuffle4").build(pointwise)) == 24 * 8 // 4 + 8
    grouped = conv_spec(nn.Conv2d(24, 48, 3, 2, 1, groups=3, bias=False))
    assert parameters(get_candidate("shuffle2").build(grouped)) == 24 * 48 * 9 // 6
    assert parameters(get_candidate("factorised").build(grouped)) == (24 * 24 + 24 * 48) * 3 // 3


def test_where_they_fit() -> None:
    def fits(name: str, conv: nn.Module) -> bool:
        return get_candidate(name).fits(conv_spec(conv))

    assert fits("lowrank2", nn.Conv2d(8, 8, 1, 2))
    assert fits("lowrank2", nn.Conv2d(8, 8, 3))
    assert not fits("lowrank2", nn.Conv2d(8, 8, 1, groups=2))
    assert not fits("lowrank2", nn.Conv2d(2, 1, 1))  # half of it is nothing
    assert fits("shuffle4", nn.Conv2d(8, 12, 3, padding=1))
    assert not fits("shuffle4", nn.Conv2d(8, 6, 3, padding=1))
    assert not fits("shuffle4", nn.Conv2d(8, 8, 3, padding=1, groups=4))
    assert fits("identity", nn.Conv2d(8, 8, 5, padding=2, groups=8))
    for other in (nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1, 2), nn.Conv2d(8, 4, 1)):
        assert not fits("identity", other)
    assert not fits("factorised", nn.Conv2d(8, 8, (1, 3), padding=(0, 1)))
    assert not fits("factorised", nn.Conv1d(8, 8, 3))


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_ships_is_explained(name: str) -> None:
    assert get_candidate(name).about
