"""A detector of torchvision is trained and refined, on images that are drawn here.

    python examples/torchvision_detector.py

The images show wide or tall boxes on noise. The detector is an SSD with a small backbone.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

import refiner

SIZE = 64


class Backbone(nn.Module):
    """Gives maps of strides 8 and 16."""

    out_channels = (48, 64)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            layer(3, 16, 2), layer(16, 32, 2), layer(32, 48, 2), layer(48, 48, 1)
        )
        self.second = nn.Sequential(layer(48, 64, 2), layer(64, 64, 1))

    def forward(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        first = self.first(x)
        return OrderedDict([("0", first), ("1", self.second(first))])


def layer(inner: int, outer: int, stride: int) -> nn.Sequential:
    """Return a conv with its norm."""
    conv = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU())


def detector() -> SSD:
    """Return the model; class 0 is the background."""
    boxes = DefaultBoxGenerator([[2], [2]], scales=[0.2, 0.4, 0.6], steps=[8, 16])
    return SSD(Backbone(), boxes, (SIZE, SIZE), 3)


def drawn(count: int, seed: int) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """Return images of 3 x 64 x 64 with a wide (1) or a high (2) box, and where it is."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for _ in range(count):
        image = 0.5 * torch.rand(3, SIZE, SIZE, generator=generator)
        kind, long = (
            int(torch.randint(*ends, (1,), generator=generator)) for ends in ((1, 3), (20, 36))
        )
        width, height = (long, long // 2) if kind == 1 else (long // 2, long)
        x = int(torch.randint(0, SIZE - width, (1,), generator=generator))
        y = int(torch.randint(0, SIZE - height, (1,), generator=generator))
        image[:, y : y + height, x : x + width] += 0.5
        boxes = torch.tensor([[x, y, x + width, y + height]]).float()
        items.append((image, {"boxes": boxes, "labels": torch.tensor([kind])}))
    return items


def collate(items: list) -> tuple:
    """Return images and targets of a batch, as torchvision's references do."""
    return tuple(zip(*items, strict=True))


def trained(model: SSD, loader: DataLoader, epochs: int) -> None:
    """Train a model by its own losses."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=2e-3)
    for _ in range(epochs):
        for images, targets in loader:
            optimizer.zero_grad()
            sum(model(images, targets).values()).backward()
            optimizer.step()


def mean_precision(model: SSD, loader: DataLoader) -> float:
    """Return mAP50-95, with the task that refiner uses as well."""
    task = refiner.Detection()
    model.eval()
    with torch.no_grad():
        return task.score(sum(task.measure(model, batch) for batch in loader))


def main(images: int = 600, epochs: int = 12, steps: int = 200) -> dict[str, float]:
    """Run the example, and return mAP50-95 of both networks."""
    torch.manual_seed(0)
    train = DataLoader(drawn(images, 0), 16, shuffle=True, collate_fn=collate)
    test = DataLoader(drawn(images // 3, 1), 16, collate_fn=collate)
    model = detector()
    trained(model, train, epochs)
    scores = {"original": mean_precision(model, test)}

    result = refiner.refine(
        model, train, test, budget="macs=60%", distill=refiner.DistillConfig(steps=steps),
        refit=refiner.RefitConfig(steps=steps), baselines=False,
        train=refiner.TrainConfig.fine_tuning(epochs=2), progress=False,
    )  # fmt: skip
    print(result)
    scores["refined"] = mean_precision(result.model, test)
    return scores


if __name__ == "__main__":
    for name, score in main().items():
        print(f"{name}: {score:.4f}")
