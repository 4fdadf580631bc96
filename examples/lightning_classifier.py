"""A LightningModule goes the whole way: trained, refined, fine-tuned, saved and trained further.

    pip install 'refiner[lightning]'
    python examples/lightning_classifier.py

The data are scikit-learn's digits, which lie on the disk. It takes about a minute on a CPU.
"""

import tempfile
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import refiner


class Digits(lightning.LightningDataModule):
    """Images N x 1 x 8 x 8 of digits, and their classes."""

    def __init__(self, count: int = 1400) -> None:
        super().__init__()
        self.count = count

    def setup(self, stage: str) -> None:
        digits = load_digits()
        images = torch.from_numpy(digits.images).float()[:, None] / 16
        labels = torch.from_numpy(digits.target).long()
        self.train = TensorDataset(images[: self.count], labels[: self.count])
        self.held_out = TensorDataset(images[1400:], labels[1400:])

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, 100, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held_out, 397)


class Block(nn.Module):
    """Two convs beside a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.branch(x))


class Classifier(lightning.LightningModule):
    """A small conv network, with its own loss and optimizer."""

    def __init__(self, width: int = 24, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            Block(width), Block(width),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels, label_smoothing=0.1)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy", (self(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


def trainer(epochs: int, folder: Path) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def main(folder: Path, epochs: int = 5, count: int = 1400, **options: Any) -> refiner.Result:
    """Train, refine and go on training; files are written into ``folder``."""
    lightning.seed_everything(0)
    module, digits = Classifier(), Digits(count)
    trainer(epochs, folder).fit(module, datamodule=digits)
    result = refiner.refine(
        module,
        digits,
        budget="macs=50%",
        distill=refiner.DistillConfig(),
        train=refiner.TrainConfig.fine_tuning(epochs=epochs),
        **options,
    )
    print(result)
    print(result.export(folder / "refined.onnx", "onnx"))
    print(result.export(folder / "refined.ckpt", "lightning"))

    refined = refiner.load_lightning(folder / "refined.ckpt", Classifier, lr=0.001)
    further = trainer(1, folder)
    further.fit(refined, datamodule=digits)
    print(further.validate(refined, datamodule=digits, verbose=False))
    saved = further.checkpoint_callback.best_model_path
    refiner.load_lightning(saved, Classifier)
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
