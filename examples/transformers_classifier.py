"""A classifier of transformers is refined, trained on and saved, on images that are drawn here.

    pip install transformers
    python examples/transformers_classifier.py

The images show a square or a disc on noise. The network is a small ResNet of transformers.
"""

import tempfile
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset
from transformers import ResNetConfig, ResNetForImageClassification

import refiner


def drawn(count: int, seed: int) -> TensorDataset:
    """Return ``count`` images of 3 x 32 x 32 with a square (0) or a disc (1)."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.5 * torch.randn(count, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 2, (count,), generator=generator)
    down, across = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    for image, label in zip(images, labels, strict=True):
        y, x = torch.randint(9, 23, (2,), generator=generator)
        square = ((down - y).abs() < 7) & ((across - x).abs() < 7)
        disc = (down - y) ** 2 + (across - x) ** 2 < 62
        image += 1.0 * (disc if label else square)
    return TensorDataset(images, labels)


def accuracy(model: torch.nn.Module, loader: DataLoader) -> float:
    """Return the share of images that a model classifies correctly."""
    model.eval()
    with torch.no_grad():
        hits = [model(x).logits.argmax(1) == y for x, y in loader]
    return float(torch.cat(hits).float().mean())


def trained(model: torch.nn.Module, loader: DataLoader, epochs: int) -> None:
    """Train a model by the loss that it computes itself."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            model(pixel_values=x, labels=y).loss.backward()
            optimizer.step()


def main(images: int = 2000, epochs: int = 4) -> dict[str, float]:
    """Run the example, and return the accuracies."""
    torch.manual_seed(0)
    train = DataLoader(drawn(images, 0), batch_size=32, shuffle=True)
    test = DataLoader(drawn(images // 2, 1), batch_size=100)
    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic",
        id2label={0: "square", 1: "disc"}, label2id={"square": 0, "disc": 1},
    )  # fmt: skip
    model = ResNetForImageClassification(config)
    trained(model, train, epochs)
    scores = {"original": accuracy(model, test)}

    result = refiner.refine(
        model, train, test, budget="macs=60%", distill=refiner.DistillConfig(),
        train=refiner.TrainConfig.fine_tuning(epochs=1), progress=False,
    )  # fmt: skip
    print(result)
    scores["refined"] = accuracy(result.model, test)
    with tempfile.TemporaryDirectory() as folder:
        result.export(Path(folder) / "refined", "transformers")
        again = refiner.from_pretrained(Path(folder) / "refined")
        scores["loaded again"] = accuracy(again, test)
        trained(again, train, 1)
        again.save_pretrained(Path(folder) / "trained")
        scores["trained on"] = accuracy(refiner.from_pretrained(Path(folder) / "trained"), test)
    return scores


if __name__ == "__main__":
    for name, score in main().items():
        print(f"{name}: {score:.4f}")
