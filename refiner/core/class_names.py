"""The classes of a trained model have to be those of its data."""

from collections.abc import Sequence

from refiner.core.errors import ConfigError


def check_class_names(own: Sequence[str], names: Sequence[str], data: str) -> None:
    """Raise a ConfigError unless a model's classes are those of the data, in their order.

    Args:
        own: names of the model's classes. Where they are other names than the data's, nothing is
            known of their order.
        names: of the data's.
        data: how the user named it.
    """
    if len(own) != len(names):
        raise ConfigError(
            f"the model has {len(own)} classes, and {data} has {len(names)}. Name the data that "
            "the model was trained on."
        )
    if set(own) == set(names) and list(own) != list(names):
        first = next(i for i, (a, b) in enumerate(zip(own, names, strict=True)) if a != b)
        raise ConfigError(
            f"class {first} is {own[first]!r} in the model, and {names[first]!r} in {data}. Write "
            "a function that gives the data the model's order: --data FILE.py:FUNCTION."
        )
