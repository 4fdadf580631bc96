"""Networks that take a known time."""

import time

import torch
from torch import nn


class Sleeper(nn.Module):
    """Takes ten milliseconds and a little more."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return x * self.weight


class Slow(nn.Conv2d):
    """A conv that takes ten milliseconds and a little more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.01)
        return super().forward(x)
