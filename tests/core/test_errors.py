import refiner.core.errors
from refiner.core.errors import RefinerError, one_line


def test_every_error_is_a_refiner_error() -> None:
    kinds = [v for v in vars(refiner.core.errors).values() if isinstance(v, type)]
    assert len(kinds) > 4
    assert all(issubclass(kind, RefinerError) for kind in kinds)


def test_one_line_folds_and_cuts() -> None:
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 1000), limit=50)) == 50
