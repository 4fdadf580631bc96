"""Records that were read from JSON: whether each field holds what its annotation says."""

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

_Record = TypeVar("_Record")


def checked_record(record: _Record, *, finite: bool = False) -> _Record:
    """Return a dataclass instance once its fields hold what their annotations say.

    Dataclasses in the fields are looked into. Annotations that JSON does not know are passed over.

    Args:
        record: the instance.
        finite: whether numbers must be finite.

    Raises:
        TypeError: a field holds something else; the message names it.
        ValueError: a number is not finite.
    """
    _check_record(record, type(record).__name__, finite)
    return record


def _check_record(record: Any, where: str, finite: bool) -> None:
    hints = get_type_hints(type(record))
    for field in fields(record):
        _check(getattr(record, field.name), hints[field.name], f"{where}.{field.name}", finite)


def _check(value: Any, kind: Any, where: str, finite: bool) -> None:
    """Raise unless a value is of a kind: an annotation."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return
    if origin in (Union, types.UnionType):
        _check_union(value, arguments, where, finite)
    elif origin is Literal:
        if value not in arguments:
            raise TypeError(f"{where} is {value!r:.60}")
    elif origin is tuple:
        _expect(value, tuple, where)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(value) != len(arguments):
            raise TypeError(f"{where} holds {len(value)} values, not {len(arguments)}")
        for i, (item, each) in enumerate(zip(value, arguments, strict=True)):
            _check(item, each, f"{where}[{i}]", finite)
    elif origin in (list, Sequence):
        _expect(value, list | tuple, where)
        for i, item in enumerate(value):
            _check(item, arguments[0], f"{where}[{i}]", finite)
    elif origin in (dict, Mapping):
        _expect(value, Mapping, where)
        for key, item in value.items():
            _check(key, arguments[0], f"a key of {where}", finite)
            _check(item, arguments[1], f"{where}.{key}", finite)
    elif kind is None or isinstance(kind, type):
        _check_plain(value, type(None) if kind is None else kind, where, finite)


def _check_union(value: Any, kinds: Sequence[Any], where: str, finite: bool) -> None:
    errors = []
    for kind in kinds:
        try:
            _check(value, kind, where, finite)
        except (TypeError, ValueError) as error:
            errors.append(error)
        else:
            return
    raise errors[0]


def _check_plain(value: Any, kind: type, where: str, finite: bool) -> None:
    if kind is float and type(value) is int:
        return
    if kind in (int, float, str, bool) and type(value) is not kind:
        raise TypeError(f"{where} is {value!r:.60}, not {kind.__name__}")
    _expect(value, kind, where)
    if finite and kind is float and not math.isfinite(value):
        raise ValueError(f"{where} is {value}")
    if is_dataclass(kind):
        _check_record(value, where, finite)


def _expect(value: Any, kind: Any, where: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{where} is {value!r:.60}")
