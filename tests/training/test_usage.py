import torch
from torch import nn

from refiner.training.usage import Usage


def test_images_are_counted_forward_and_backward_by_any_way_of_calling() -> None:
    class Named(nn.Module):
        def forward(self, *, image: torch.Tensor) -> torch.Tensor:
            return image

    usage, network = Usage(), Named()
    network(image=torch.zeros(9, 1))
    with usage.counting(network):
        network(image=torch.zeros(3, 1))
        with torch.no_grad():
            network(image=torch.zeros(5, 1))
    assert (usage.forward, usage.backward) == (8, 3)
    assert not network._forward_pre_hooks
    linear = nn.Linear(1, 1)
    with usage.counting(linear):
        linear(torch.zeros(2, 1))
    assert str(usage) == "10 images forward, 5 of them backward"
