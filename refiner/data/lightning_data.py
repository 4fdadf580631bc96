"""Data of Lightning: the loaders of a LightningDataModule, or those of a LightningModule itself."""

import inspect
from collections.abc import Mapping
from typing import Any

from refiner.core.errors import DataError, one_line
from refiner.core.lightning_modules import SOURCE, base_of, overrides
from refiner.core.randomness import seeded
from refiner.core.user_code import load_function
from refiner.data.loaders import Data

_TRANSFERS = ("on_before_batch_transfer", "on_after_batch_transfer")
"""Hooks that change what a batch holds, and that a Trainer alone calls."""


def is_data_module(value: object) -> bool:
    """Return whether a value is a LightningDataModule of either package."""
    return base_of(type(value), "LightningDataModule") is not None


def has_loaders(module: object) -> bool:
    """Return whether the class of a LightningModule gives training batches itself."""
    return overrides(module, "train_dataloader")


def named_data(spec: str, *, seed: int) -> Data:
    """Return the data of ``lightning:FILE.py:CLASS``, a LightningDataModule made without arguments.

    ``CLASS`` may also be a function that returns one.

    Raises:
        DataError: it is missing, needs arguments, or gives no loaders.
    """
    maker = load_function(spec, DataError, form=SOURCE)
    try:
        inspect.signature(maker).bind()
    except TypeError as error:
        raise DataError(
            f"{spec} cannot be made without arguments: {one_line(error)}. Name a function that "
            "returns the DataModule."
        ) from error
    with seeded(seed):
        try:
            module = maker()
        except Exception as error:
            raise DataError(f"{spec} raised {one_line(error)}") from error
    if not is_data_module(module):
        raise DataError(
            f"{spec} gives a {type(module).__name__}. Name a LightningDataModule, or a function "
            "that returns one."
        )
    return data_of(module, name=spec, seed=seed)


def data_of(module: Any, *, name: str = "", seed: int = 0) -> Data:
    """Return the loaders of a LightningDataModule, or of a LightningModule that has its own.

    ``prepare_data`` and ``setup`` are called as a Trainer calls them, with the global generators
    set to ``seed`` inside.

    Raises:
        DataError: its code fails, or it gives several loaders for one part.
    """
    check_batches_stay(module)
    name = name or type(module).__name__
    try:
        with seeded(seed):
            module.prepare_data()
            module.setup("fit")
            train = module.train_dataloader()
            val = module.val_dataloader() if overrides(module, "val_dataloader") else None
            test = None
            if overrides(module, "test_dataloader"):
                module.setup("test")
                test = module.test_dataloader()
    except Exception as error:
        raise DataError(
            f"the loaders of {name} cannot be made: {one_line(error, 200)}. They have to work "
            "without a Trainer."
        ) from error
    parts = {"train": train, "val": val, "test": test}
    loaders = {part: _single(each, part, name) for part, each in parts.items()}
    return Data(train=loaders["train"], val=loaders["val"], test=loaders["test"], name=name)


def check_batches_stay(module: object) -> None:
    """Raise a DataError where a Trainer would change the batches of a module."""
    changing = [hook for hook in _TRANSFERS if overrides(module, hook)]
    if changing:
        raise DataError(
            f"{type(module).__name__}.{changing[0]} changes batches, and only a Trainer calls it. "
            "Do that in the data set or in the steps."
        )


def _single(loaders: Any, part: str, name: str) -> Any:
    """Return the only loader of a part; None where there is none."""
    if type(loaders).__name__ == "CombinedLoader":
        loaders = loaders.iterables
    listed = list(loaders.values()) if isinstance(loaders, Mapping) else loaders
    if not isinstance(listed, list | tuple):
        return listed
    if len(listed) > 1:
        raise DataError(
            f"{name} gives {len(listed)} loaders for {part}, and one is used. Give one, or pass "
            "the loaders themselves in Python."
        )
    return listed[0] if listed else None
