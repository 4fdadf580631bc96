import pytest
import torch
from torch import nn

from refiner.cost.counting import count_macs
from refiner.cost.thop_check import thop_macs


class UNet(nn.Module):
    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 3, 2, padding=1, output_padding=1, groups=groups)
        self.head = nn.Conv2d(7, 2, 1)

    def forward(self, x):
        return self.head(torch.cat([self.up(self.down(x).relu()), x], 1))


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_conv_counts_by_its_input(groups) -> None:
    model, x = UNet(groups).eval(), torch.randn(2, 3, 16, 16)
    by_hand = 64 * 8 * 27 + 64 * 8 * 4 // groups * 9 + 256 * 14
    assert count_macs(model, x).macs == 2 * by_hand
    assert thop_macs(model, x) == (by_hand, ())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_count_as_in_torch(kind) -> None:
    model, x = kind(6, 7, 2, bidirectional=True, batch_first=True).eval(), torch.randn(2, 9, 6)
    assert thop_macs(model, x) == (count_macs(model, x).macs // 2, ())


def test_a_packed_sequence_counts_its_steps() -> None:
    class Packs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.rnn = nn.LSTMCell(6, 6), nn.LSTM(6, 7, batch_first=True)

        def forward(self, x):
            x = torch.stack([self.cell(step)[0] for step in x.unbind(1)], 1)
            return self.rnn(nn.utils.rnn.pack_padded_sequence(x, [9, 4], batch_first=True))[1][0]

    model, x = Packs().eval(), torch.randn(2, 9, 6)
    assert thop_macs(model, x) == (count_macs(model, x).macs // 2, ())


def test_what_thop_cannot_run_is_said() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            if self.conv._forward_hooks:
                raise RuntimeError("no hooks here")
            return self.conv(x)

    macs, notes = thop_macs(Fails().eval(), torch.randn(1, 3, 4, 4))
    assert macs is None
    assert notes == ("thop could not count this model (RuntimeError: no hooks here)",)
