import pytest
import timm
import torch

from refiner.cost.counting import count_macs
from refiner.cost.without_macs import computes_no_macs

aten = torch.ops.aten


def test_plain_operations_hold_none_and_products_may() -> None:
    for operation in (
        aten.relu_, aten.add, aten.view, aten.native_batch_norm, aten._softmax, aten.mean,
        aten.max_pool2d_with_indices, aten.upsample_bilinear2d, aten.hardswish_, aten.bernoulli_,
        aten._pack_padded_sequence,
    ):  # fmt: skip
        assert computes_no_macs(getattr(operation, operation.overloads()[0])), operation
    for operation in (aten.mm, aten._fft_r2c, aten._cdist_forward, aten.convolution, aten.linear):
        assert not computes_no_macs(operation.default), operation


@pytest.mark.parametrize("name", ["mobilevit_xxs", "coatnet_nano_rw_224", "hrnet_w18_small"])
def test_nothing_of_a_published_network_is_missed(name) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        found = count_macs(model, torch.empty(1, *model.default_cfg["input_size"]))
    assert found.macs
    assert not found.missed
