"""Makes a trained convolutional network cheaper and faster, and leaves its skip connections alone.

Names are imported when they are first used, so that ``refine --help`` does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refiner.api import refine
    from refiner.core.errors import RefinerError
    from refiner.core.listeners import Listeners
    from refiner.core.models import ModelSpec
    from refiner.core.progress import Lines
    from refiner.cost.costs import Cost, measure_cost
    from refiner.cost.latency import measure_latency
    from refiner.data.datasets import load_data
    from refiner.data.loaders import Data
    from refiner.distill.distillation import DistillConfig
    from refiner.distill.refit import RefitConfig
    from refiner.exports.exporting import export
    from refiner.exports.lightning_checkpoint import load_lightning
    from refiner.exports.pretrained import from_pretrained
    from refiner.graph.conv_spec import ConvSpec
    from refiner.graph.slots import Slot, find_slots
    from refiner.graph.tracing import trace
    from refiner.runs.architecture_training import train_architecture
    from refiner.runs.report import Report
    from refiner.runs.result import Result
    from refiner.runs.seeds import SeedsReport
    from refiner.runs.settings import Settings
    from refiner.search.search import Search, SearchConfig, SearchResult
    from refiner.search.strategy import Strategy
    from refiner.space.architecture import Architecture
    from refiner.space.candidates import Candidate, register_candidate
    from refiner.space.rewriting import rewrite
    from refiner.space.search_space import SearchSpace, search_space
    from refiner.space.supernet import Supernet
    from refiner.trackers.mlflow import MLflow
    from refiner.trackers.tensorboard import TensorBoard
    from refiner.trackers.wandb import WandB
    from refiner.training.detection_task import Detection
    from refiner.training.lightning_task import lightning_task
    from refiner.training.loop import TrainConfig, train
    from refiner.training.own_loss import OwnLoss
    from refiner.training.task import Classification, Regression, Segmentation, Task
    from refiner.training.yolo_task import YoloClassification, YoloDetection

__version__ = "0.1.0"

_HOME = {
    "Architecture": "space.architecture",
    "Candidate": "space.candidates",
    "Classification": "training.task",
    "ConvSpec": "graph.conv_spec",
    "Cost": "cost.costs",
    "Data": "data.loaders",
    "Detection": "training.detection_task",
    "DistillConfig": "distill.distillation",
    "Lines": "core.progress",
    "Listeners": "core.listeners",
    "MLflow": "trackers.mlflow",
    "ModelSpec": "core.models",
    "OwnLoss": "training.own_loss",
    "RefinerError": "core.errors",
    "RefitConfig": "distill.refit",
    "Regression": "training.task",
    "Report": "runs.report",
    "Result": "runs.result",
    "Search": "search.search",
    "SearchConfig": "search.search_config",
    "SearchResult": "search.search",
    "SearchSpace": "space.search_space",
    "SeedsReport": "runs.seeds",
    "Settings": "runs.settings",
    "Segmentation": "training.task",
    "Slot": "graph.slots",
    "Strategy": "search.strategy",
    "Supernet": "space.supernet",
    "Task": "training.task",
    "TensorBoard": "trackers.tensorboard",
    "TrainConfig": "training.loop",
    "WandB": "trackers.wandb",
    "YoloClassification": "training.yolo_task",
    "YoloDetection": "training.yolo_task",
    "export": "exports.exporting",
    "find_slots": "graph.slots",
    "from_pretrained": "exports.pretrained",
    "lightning_task": "training.lightning_task",
    "load_data": "data.datasets",
    "load_lightning": "exports.lightning_checkpoint",
    "measure_cost": "cost.costs",
    "measure_latency": "cost.latency",
    "refine": "api",
    "register_candidate": "space.candidates",
    "rewrite": "space.rewriting",
    "search_space": "space.search_space",
    "trace": "graph.tracing",
    "train": "training.loop",
    "train_architecture": "runs.architecture_training",
}
"""The module in which each public name lives."""

__all__ = [
    "Architecture",
    "Candidate",
    "Classification",
    "ConvSpec",
    "Cost",
    "Data",
    "Detection",
    "DistillConfig",
    "Lines",
    "Listeners",
    "MLflow",
    "ModelSpec",
    "OwnLoss",
    "RefinerError",
    "RefitConfig",
    "Regression",
    "Report",
    "Result",
    "Search",
    "SearchConfig",
    "SearchResult",
    "SearchSpace",
    "SeedsReport",
    "Settings",
    "Segmentation",
    "Slot",
    "Strategy",
    "Supernet",
    "Task",
    "TensorBoard",
    "TrainConfig",
    "WandB",
    "YoloClassification",
    "YoloDetection",
    "export",
    "find_slots",
    "from_pretrained",
    "lightning_task",
    "load_data",
    "load_lightning",
    "measure_cost",
    "measure_latency",
    "refine",
    "register_candidate",
    "rewrite",
    "search_space",
    "trace",
    "train",
    "train_architecture",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'refiner' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"refiner.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
