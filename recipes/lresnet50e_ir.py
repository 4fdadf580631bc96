"""LResNet50E-IR, the face network that the paper refines (ArcFace's 50-layer model).

Improved residual units (IR): norm, conv3x3, norm, PReLU, conv3x3 with the stride, norm. Output
setting E: norm, dropout, fully connected, norm. 112x112 images, a stem without stride (L).
4.36e7 parameters and 6.31e9 MACs; 24 slots of granularity ``block``.

Source: Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2018,
section 2.2 and 2.3; section 4.1 of the paper.
"""

import torch
from torch import nn

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))
"""(channels, units) of each stage; the first unit of each halves the image."""


class ImprovedResidualUnit(nn.Module):
    """Two conv3x3 between norms, and a skip edge round them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the unit's output, N x channels x H / stride x W / stride."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        output: torch.Tensor = self.bn3(self.conv2(y)) + self.shortcut(x)
        return output


class LResNet50EIR(nn.Module):
    """The backbone: images, N x 3 x 112 x 112, to embeddings, N x embedding_size."""

    def __init__(self, embedding_size: int = 512, dropout: float = 0.4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        units: list[nn.Module] = []
        in_channels = 64
        for channels, count in STAGES:
            for i in range(count):
                units.append(ImprovedResidualUnit(in_channels, channels, 2 if i == 0 else 1))
                in_channels = channels
        self.units = nn.Sequential(*units)
        self.bn = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * 7 * 7, embedding_size)
        self.features = nn.BatchNorm1d(embedding_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the embeddings, before they are normalised."""
        x = self.dropout(self.bn(self.units(self.stem(x))))
        output: torch.Tensor = self.features(self.fc(x.flatten(1)))
        return output


def build_model(embedding_size: int = 512) -> nn.Module:
    """Return the network with fresh weights."""
    model = LResNet50EIR(embedding_size)
    model.default_cfg = {"input_size": (3, 112, 112)}  # type: ignore[assignment]
    return model
