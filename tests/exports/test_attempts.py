import warnings

import pytest
import torch

from refiner.core.errors import ModelError
from refiner.exports.attempts import Made, best_of, quiet
from refiner.exports.batch_sizes import BatchSizes


def made(name: str, *held: int, differed: tuple[int, ...] = ()):
    def attempt(path) -> Made:
        path.write_text(name)
        return Made(path=path, how=name, sizes=BatchSizes(held=held, differed=differed))

    return attempt


def fails(_path) -> Made:
    raise ValueError("no way")


def test_the_first_attempt_that_holds_everywhere_counts(tmp_path) -> None:
    ways = {"a": fails, "b": made("b", 1, 2), "c": made("c", 1, 2)}
    best = best_of("X", ways, tmp_path, ".pt2")
    assert str(best) == "b, any batch size"
    assert best.path == tmp_path / "1.pt2"
    assert best.path.read_text() == "b"
    assert not (tmp_path / "2.pt2").exists()


def test_else_the_one_that_holds_at_most_sizes(tmp_path) -> None:
    ways = {
        "a": made("a", 2, differed=(1, 3)),
        "b": made("b", 2, 3, differed=(1,)),
        "c": made("c", 1, 2, differed=(3,)),
    }
    best = best_of("X", ways, tmp_path)
    assert str(best) == "b, batches of 2 or more, not of 1"
    assert best.path.read_text() == "b"


def test_errors_are_told_where_none_works(tmp_path) -> None:
    def disk(_path) -> Made:
        raise OSError(28, "No space left")

    with pytest.raises(ModelError, match="X cannot hold this model: a: ValueError: no way"):
        best_of("X", {"a": fails}, tmp_path)
    with pytest.raises(OSError, match="No space"):
        best_of("X", {"a": disk, "b": made("b", 1, 2)}, tmp_path)


def test_exporters_are_silenced(capsys) -> None:
    with warnings.catch_warnings(record=True) as caught, quiet():
        print("exporting")
        warnings.warn("it will change", stacklevel=1)
        assert not torch.is_grad_enabled()
    assert (capsys.readouterr().out, caught) == ("", [])
