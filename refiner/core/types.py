"""Types that several packages share."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

Batch: TypeAlias = Any
"""One item of a loader. Only the task knows its structure."""

Output: TypeAlias = Any
"""What a model returns: a tensor, or any nesting of tensors and plain values."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A value that JSON can hold."""

JsonDict: TypeAlias = dict[str, Any]
"""A JSON object whose reader checks its fields."""

StateDict: TypeAlias = dict[str, Any]
"""Tensors and plain values that ``torch.save`` writes and ``weights_only=True`` reads."""


class Loader(Protocol):
    """Batches in an order, of known number: a DataLoader, or any iterable with ``len()``."""

    def __iter__(self) -> Iterator[Batch]:
        """Start one pass over the data."""

    def __len__(self) -> int:
        """Return the number of batches of a pass."""


class DataModule(Protocol):
    """A LightningDataModule, which makes its loaders itself."""

    def train_dataloader(self) -> Any:
        """Return the loader of training batches."""


ARCHITECTURE_KEY = "refiner_architectures"
"""Where checkpoints and configs of other libraries hold how a model's convs were replaced."""


class Provenance(TypedDict, total=False):
    """How a model was made, as config.json and architecture.json keep it."""

    spec: Mapping[str, Any]
    """Fields of a :class:`refiner.core.models.ModelSpec`."""
    command: Mapping[str, Any]
    """Options of the command that made the run."""
    recipe: Mapping[str, Any]
    """Settings of the recipe that made the run."""
    preprocessing: Mapping[str, Any]
    """Fields of a :class:`refiner.core.preprocessing.Preprocessing`."""
    example_input: Any
    """What :func:`refiner.core.contents.to_json` returned."""
