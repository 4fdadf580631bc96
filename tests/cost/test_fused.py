"""Each fused operation counts what the matrix products that it stands for count."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import DeformConv2d

from refiner.cost.counting import count_macs
from refiner.cost.fused import FUSED

L, E = 12, 8


class Calls(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


def by_matrix_products(function, x) -> int:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function(x)
    return counter.get_total_flops() // 2


ATTENTION = {
    "plain": lambda x: F.scaled_dot_product_attention(x, x, x),
    "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "masked": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.zeros(L, L)),
    "shared heads": lambda x: F.scaled_dot_product_attention(
        x, x[:, :2], x[:, :2], enable_gqa=True
    ),
    "wider values": lambda x: F.scaled_dot_product_attention(x, x, torch.cat([x, x], -1)),
    "other length": lambda x: F.scaled_dot_product_attention(x, x[:, :, :5], x[:, :, :5]),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_counts_the_whole_products(name) -> None:
    x = torch.randn(2, 4, L, E)
    found = count_macs(Calls(ATTENTION[name]), x)
    assert found.macs == by_matrix_products(ATTENTION[name], x) > 0
    assert not found.missed


def test_multi_head_attention_and_an_encoder_layer_as_fused_operations() -> None:
    x = torch.randn(2, L, E)
    layer = nn.TransformerEncoderLayer(E, 2, 32, batch_first=True).eval()
    mha, tokens = layer.self_attn, 2 * L
    attention = 4 * tokens * E**2 + 2 * 2 * L**2 * E
    weights = (mha.in_proj_weight, mha.in_proj_bias, mha.out_proj.weight, mha.out_proj.bias)

    def fused(x):
        return torch._native_multi_head_attention(x, x, x, E, 2, *weights)[0]

    assert count_macs(Calls(fused), x).macs == attention
    nested = torch.nested.nested_tensor([x[0], x[1, :5]])
    half = FUSED["aten._native_multi_head_attention"](None, nested, nested, nested, E, 2, *weights)
    assert half == 4 * (L + 5) * E**2 + 2 * (L**2 + 25) * E

    def whole(x):
        norms = (layer.norm1.weight, layer.norm1.bias, layer.norm2.weight, layer.norm2.bias)
        return torch._transformer_encoder_layer_fwd(
            x, E, 2, *weights, False, False, 1e-5, *norms, layer.linear1.weight,
            layer.linear1.bias, layer.linear2.weight, layer.linear2.bias,
        )  # fmt: skip

    assert count_macs(Calls(whole), x).macs == attention + 2 * tokens * E * 32


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_recurrent_layers_count_their_matrices_at_each_step(kind, packed, bias) -> None:
    layer = kind(6, 7, 2, bidirectional=True, batch_first=True, bias=bias)

    def run(x):
        if packed:
            x = nn.utils.rnn.pack_padded_sequence(x, [9, 4], batch_first=True)
        return layer(x)[1]

    found = count_macs(Calls(run), torch.randn(2, 9, 6))
    matrices = sum(p.numel() for p in layer.parameters() if p.dim() > 1)
    assert found.macs == (13 if packed else 18) * matrices
    assert not found.missed


def test_projected_and_single_step_layers() -> None:
    lstm = nn.LSTM(6, 7, proj_size=5, batch_first=True)
    matrices = sum(p.numel() for p in lstm.parameters() if p.dim() > 1)
    assert count_macs(lstm, torch.randn(2, 9, 6)).macs == 18 * matrices
    assert count_macs(nn.LSTMCell(6, 7), torch.randn(2, 6)).macs == 2 * 4 * 7 * 13
    assert count_macs(nn.GRUCell(6, 7), torch.randn(2, 6)).macs == 2 * 3 * 7 * 13


def test_recurrent_layers_of_other_devices() -> None:
    steps = torch.empty(9, 2, 6, device="meta")
    weights = [torch.empty(28, 6), torch.empty(28, 7), torch.empty(28)]
    assert FUSED["aten._cudnn_rnn"](None, steps, weights, 3) == 18 * 28 * 13
    packed = torch.empty(13, 6, device="meta")
    assert FUSED["aten.miopen_rnn"](None, packed, weights, 3) == 13 * 28 * 13
    assert FUSED["aten._lstm_mps"](None, steps, [], weights, True) == 18 * 28 * 13


@pytest.mark.parametrize("groups", [1, 2])
def test_a_deformable_conv_counts_as_the_conv(groups) -> None:
    layer = DeformConv2d(4, 6, 3, stride=2, padding=1, groups=groups)
    x, offset = torch.randn(2, 4, 8, 8), torch.randn(2, 18, 4, 4)
    found = count_macs(layer, (x, offset))
    assert found.macs == 2 * 16 * 6 * 4 // groups * 9
    assert not found.missed


def test_other_products() -> None:
    def macs(function, *shape):
        found = count_macs(Calls(function), torch.randn(*shape))
        assert not found.missed
        return found.macs

    assert macs(lambda x: torch.einsum("bhqe,bhke->bhqk", x, x), 2, 3, 5, 4) == 2 * 3 * 25 * 4
    assert macs(lambda x: torch.mv(x, torch.ones(4)), 3, 4) == 12
    assert macs(lambda x: torch.addmv(torch.ones(3), x, torch.ones(4)), 3, 4) == 12
    assert macs(lambda x: torch.dot(x, x), 7) == 7
    assert macs(lambda x: torch.addbmm(torch.ones(3, 3), x, x), 2, 3, 3) == 2 * 27
    assert macs(lambda x: torch.baddbmm(x, x, x), 2, 3, 3) == 2 * 27
    assert macs(lambda x: F.bilinear(x, x, torch.ones(5, 4, 4)), 2, 4) == 2 * 5 * 16
    assert macs(lambda x: torch.cdist(x, x), 2, 30, 4) == 2 * 30 * 30 * 4
    grouped = FUSED["aten._grouped_mm"]
    three = torch.empty(2, 4, 5)
    assert grouped(torch.empty(6, 5), torch.empty(6, 4), three) == 6 * 5 * 4
    assert grouped(torch.empty(4, 5), torch.empty(4, 6), torch.empty(6, 5)) == 4 * 6 * 5
