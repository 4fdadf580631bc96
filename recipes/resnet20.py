"""ResNet-20 for 32x32 images, the hand-made network of the paper's section 3.1 (table 1).

A conv3x3, then three stages of residual blocks at full, half and quarter height and width, average
pooling and one linear layer; ``6 units + 2`` layers, so 20 with the 3 units of each stage.
Shortcuts have no parameters: where a block halves the image, they take every other pixel and pad
the channels with zeros (He et al.'s option A). The paper widens He et al.'s 16, 32 and 64 channels
to 64, 128 and 256: 4.3e6 parameters, 6.4e8 MACs.

Source: He et al., Deep Residual Learning for Image Recognition, 2016, section 4.2.
"""

import torch
import torch.nn.functional as F
from torch import nn

from refiner.core.randomness import seeded

CHANNELS = (64, 128, 256)
"""Of the three stages (section 3.1 of the paper)."""


class Block(nn.Module):
    """Two conv3x3, each with its norm, and a shortcut without parameters round them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride, self.added = stride, channels - in_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return N x channels x H / stride x W / stride, for ``x``, N x in_channels x H x W."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            x = F.pad(x, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        return F.relu(y + x)


class ResNet(nn.Module):
    """Images, N x 3 x H x W, to N x num_classes."""

    def __init__(self, num_classes: int, channels: tuple[int, int, int], units: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels[0])
        blocks: list[nn.Module] = []
        before = channels[0]
        for stage, width in enumerate(channels):
            for unit in range(units):
                blocks.append(Block(before, width, 2 if stage and not unit else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, or the embeddings, N x num_classes."""
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        output: torch.Tensor = self.fc(x.mean((2, 3)))
        return output


def build_model(
    num_classes: int = 10,
    channels: tuple[int, int, int] = CHANNELS,
    units: int = 3,
    seed: int = 0,
) -> nn.Module:
    """Return the network with fresh weights; ``units`` residual blocks a stage."""
    with seeded(seed):
        model = ResNet(num_classes, channels, units)
        model.default_cfg = {"input_size": (3, 32, 32)}  # type: ignore[assignment]
        return model
