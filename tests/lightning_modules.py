"""Small LightningModules and their data, for tests; ``SOURCE`` is the text of a user's file."""

import importlib.util
from pathlib import Path
from typing import Any

SOURCE = '''
import lightning as L
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset


def net(width, outputs):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs),
    )


class Classifier(L.LightningModule):
    def __init__(self, width=8, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = net(width, 3)
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=3)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = 2 * F.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.accuracy(logits, y)
        self.log("accuracy", self.accuracy)
        self.log("val_loss", F.cross_entropy(logits, y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


class Painter(L.LightningModule):
    """Its steps call the inner network, and forward gives something else."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
            nn.Conv2d(8, 3, 3, padding=1),
        )

    def forward(self, x):
        return self.net(x).sigmoid()

    def training_step(self, batch, batch_idx):
        return {"loss": F.mse_loss(self.net(batch[0]), batch[0])}

    def validation_step(self, batch):
        self.log_dict({"error": 1.0, "mean_loss": F.mse_loss(self.net(batch[0]), batch[0])})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def dataset(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    x = 0.5 * torch.randn(count, 3, 8, 8, generator=generator)
    x[torch.arange(count), y] += 1
    return TensorDataset(x, y)


class Colours(L.LightningDataModule):
    def setup(self, stage):
        self.images = Subset(dataset(60), torch.randperm(60)[:48].tolist())

    def train_dataloader(self):
        return DataLoader(self.images, 16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.images, 24)


class WithLoaders(Classifier):
    def train_dataloader(self):
        return DataLoader(dataset(48), 16, shuffle=True)

    def val_dataloader(self):
        return [DataLoader(dataset(24, 1), 24)]
'''


def written(folder: Path) -> Any:
    """Write the file of the user's, and return the module that it is."""
    file = folder / "lit.py"
    file.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("lit_of_tests", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trainer(folder: Path, epochs: int = 1, **options: Any) -> Any:
    """Return a Trainer on the CPU that says nothing."""
    import lightning

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, default_root_dir=folder, **quiet, **options
    )
