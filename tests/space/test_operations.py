"""What operations compute; test_candidates.py tests their shapes and sizes."""

import onnxruntime
import torch
from torch import nn

from refiner.graph.conv_spec import conv_spec
from refiner.space.operations import (
    ChannelShuffle,
    Pad,
    build_conv,
    build_factorised,
    build_identity,
    build_shuffle,
)


def test_negative_padding_crops_as_a_smaller_kernel_needs() -> None:
    conv = nn.Conv2d(4, 4, 5)
    smaller = build_conv(conv_spec(conv), kernel=3)
    assert isinstance(smaller[0], Pad)
    x = torch.zeros(1, 4, 9, 9)
    x[:, :, 0] = 1e6  # the outermost ring, which the smaller kernel must not see
    with torch.no_grad():
        assert torch.equal(smaller(x), smaller(torch.zeros_like(x)))


def test_a_shuffle_lets_each_group_see_all_channels() -> None:
    built = build_shuffle(conv_spec(nn.Conv2d(16, 4, 1, bias=False)), parts=4)
    nn.init.ones_(built[1].weight)
    x = torch.zeros(1, 16, 1, 1)
    x[0, :4] = 1.0  # what would be one group alone
    assert built(x).flatten().tolist() == [1.0, 1.0, 1.0, 1.0]


def test_an_identity_may_be_written_into() -> None:
    x = torch.ones(1, 2, 3, 3)
    build_identity(conv_spec(nn.Conv2d(2, 2, 1)))(x).zero_()
    assert x.sum() == 18


def test_a_factorised_conv_is_the_outer_product_of_a_column_and_a_row() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    column, row = built = build_factorised(conv_spec(conv))
    with torch.no_grad():
        column.weight.copy_(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1))
        row.weight.copy_(torch.tensor([5.0, 7.0, 11.0]).reshape(1, 1, 1, 3))
        conv.weight.copy_(column.weight * row.weight)
        x = torch.randint(0, 9, (2, 1, 6, 5)).float()
        assert torch.equal(built(x), conv(x))


def test_a_channel_shuffle_is_scripted_and_goes_through_the_older_onnx_exporter(tmp_path) -> None:
    network, x = (
        nn.Sequential(nn.Conv2d(3, 4, 1), ChannelShuffle(2)).eval(),
        torch.randn(2, 3, 4, 4),
    )
    expected = nn.ChannelShuffle(2)(network[0](x))
    assert torch.equal(network(x), expected)
    assert torch.equal(torch.jit.script(network)(x), expected)
    torch.onnx.export(network, (x,), tmp_path / "x.onnx", dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(str(tmp_path / "x.onnx"))
    (found,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), expected)
