import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align

from refiner.cost.counting import count_macs

TOKENS, WIDTH = 16, 8


class Calls(nn.Module):
    """Calls a function; it has no layers."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def counted(function, *shape):
    return count_macs(Calls(function), torch.randn(*shape))


def test_a_known_operation_a_plain_one_and_one_that_nobody_counts() -> None:
    found = counted(
        lambda x: torch.fft.rfft2(F.conv2d(x, torch.ones(4, 3, 3, 3)).relu()), 2, 3, 8, 8
    )
    assert found.macs == 2 * 36 * 4 * 27
    assert found.plain["relu"] == 1
    assert found.missed == {"_fft_r2c": 1}


def test_an_operation_of_someone_elses_is_missed() -> None:
    @torch.library.custom_op("refiner_tests::mystery", mutates_args=())
    def mystery(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    assert counted(mystery, 3, 3).missed == {"mystery": 1}


def test_inference_mode_hides_nothing() -> None:
    def function(x):
        with torch.inference_mode():
            return F.linear(F.scaled_dot_product_attention(x, x, x), torch.ones(5, WIDTH))

    found = counted(function, 1, 2, TOKENS, WIDTH)
    assert found.macs == 2 * (2 * TOKENS**2 * WIDTH + TOKENS * WIDTH * 5)


def test_the_branch_that_is_taken_counts() -> None:
    def function(x):
        return torch.cond(x.sum() > 0, lambda y: y @ y, lambda y: y @ y @ y, (x,))

    assert counted(lambda x: function(x.abs()), 3, 3).macs == 27
    assert counted(lambda x: function(-x.abs()), 3, 3).macs == 54


def test_nested_tensors_count_what_they_hold_or_are_named() -> None:
    def jagged(x):
        both = torch.nested.nested_tensor([x, x[:4]], layout=torch.jagged)
        return F.linear(both, torch.ones(5, WIDTH)).values()

    assert counted(jagged, TOKENS, WIDTH).macs == 20 * WIDTH * 5

    def strided(x):
        both = torch.nested.nested_tensor([x, x[:4]])
        return F.linear(both, torch.ones(5, WIDTH)).to_padded_tensor(0.0)

    assert counted(strided, TOKENS, WIDTH).missed == {"linear": 1}


@pytest.mark.parametrize("padded", [False, True])
def test_the_paths_that_torch_takes_without_gradients_are_counted_in_full(padded) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x):
            padding = (torch.arange(TOKENS) > 4).expand(len(x), -1) if padded else None
            return self.encoder(x, src_key_padding_mask=padding)

    found = count_macs(Encoder().eval(), torch.randn(2, TOKENS, WIDTH))
    layer = 4 * TOKENS * WIDTH**2 + 2 * TOKENS**2 * WIDTH + 2 * TOKENS * WIDTH * 32
    assert found.macs == 2 * 2 * layer
    assert not found.missed
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_settings_come_back_where_the_model_fails() -> None:
    with pytest.raises(ZeroDivisionError):
        counted(lambda x: 1 / 0, 1)
    assert torch.backends.mha.get_fastpath_enabled()


def test_each_time_that_an_operation_is_missed_counts() -> None:
    @torch.library.custom_op("refiner_tests::enigma", mutates_args=())
    def enigma(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    assert counted(lambda x: enigma(enigma(x)), 3, 3).missed == {"enigma": 2}
    found = counted(lambda x: torch.fft.fft(torch.fft.rfft2(x) + torch.fft.rfft2(x)), 2, 3, 8, 8)
    assert found.missed == {"_fft_r2c": 2, "_fft_c2c": 1}


def test_what_torchvision_asks_of_its_own_build_is_not_missed() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
    assert not counted(lambda x: roi_align(x, boxes, 3), 1, 2, 8, 8).missed


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_norm_has_one_name_in_both_modes(training) -> None:
    found = count_macs(nn.BatchNorm2d(3).train(training), torch.randn(2, 3, 4, 4))
    assert found.plain["batch_norm"] == 1
