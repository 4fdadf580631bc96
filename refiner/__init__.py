"""Refine the operators of a convolutional network and leave its skip connections alone.

Names are imported when they are first used, so that ``refine --help`` need not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refiner.api import refine
    from refiner.architecture import Architecture
    from refiner.architecture_training import train_architecture
    from refiner.candidates import Candidate, register_candidate
    from refiner.conv_spec import ConvSpec
    from refiner.cost import Cost, measure_cost
    from refiner.data import load_data
    from refiner.distillation import DistillConfig
    from refiner.errors import RefinerError
    from refiner.exporting import export
    from refiner.latency import measure_latency
    from refiner.loaders import Data
    from refiner.models import ModelSpec
    from refiner.report import Report
    from refiner.result import Result
    from refiner.rewriting import rewrite
    from refiner.search import Search, SearchConfig, SearchResult
    from refiner.seeds import SeedsReport
    from refiner.skips import SkipEdge
    from refiner.slots import ConvSite, Frozen, Slot, find_slots
    from refiner.space import SearchSpace, search_space
    from refiner.strategy import Strategy
    from refiner.supernet import Supernet
    from refiner.task import Classification, Regression, Segmentation, Task
    from refiner.tracing import trace
    from refiner.training import TrainConfig, train

__version__ = "0.1.0"

_HOME = {
    "Architecture": "architecture",
    "Candidate": "candidates",
    "Classification": "task",
    "ConvSite": "slots",
    "ConvSpec": "conv_spec",
    "Cost": "cost",
    "Data": "loaders",
    "DistillConfig": "distillation",
    "Frozen": "slots",
    "ModelSpec": "models",
    "RefinerError": "errors",
    "Regression": "task",
    "Report": "report",
    "Result": "result",
    "Search": "search",
    "SearchConfig": "search",
    "SearchResult": "search",
    "SearchSpace": "space",
    "SeedsReport": "seeds",
    "Segmentation": "task",
    "SkipEdge": "skips",
    "Slot": "slots",
    "Strategy": "strategy",
    "Supernet": "supernet",
    "Task": "task",
    "TrainConfig": "training",
    "export": "exporting",
    "find_slots": "slots",
    "load_data": "data",
    "measure_cost": "cost",
    "measure_latency": "latency",
    "refine": "api",
    "register_candidate": "candidates",
    "rewrite": "rewriting",
    "search_space": "space",
    "trace": "tracing",
    "train": "training",
    "train_architecture": "architecture_training",
}
"""The module in which each public name lives."""

__all__ = [
    "Architecture",
    "Candidate",
    "Classification",
    "ConvSite",
    "ConvSpec",
    "Cost",
    "Data",
    "DistillConfig",
    "Frozen",
    "ModelSpec",
    "RefinerError",
    "Regression",
    "Report",
    "Result",
    "Search",
    "SearchConfig",
    "SearchResult",
    "SearchSpace",
    "SeedsReport",
    "Segmentation",
    "SkipEdge",
    "Slot",
    "Strategy",
    "Supernet",
    "Task",
    "TrainConfig",
    "export",
    "find_slots",
    "load_data",
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
