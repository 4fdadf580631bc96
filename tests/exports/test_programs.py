import torch
from models import TinyResNet, images

from refiner.exports.programs import open_batch, program


def test_a_batch_of_one_is_recorded_as_two() -> None:
    assert len(open_batch(images(1))) == 2
    x = images(3)
    assert open_batch(x) is x


def test_the_batch_size_stays_open_or_is_the_examples() -> None:
    model = TinyResNet().eval()
    taken = {}
    for dynamic in (True, False):
        module = program(model, images(1), dynamic=dynamic).module()
        try:
            taken[dynamic] = len(module(images(3)))
        except (RuntimeError, AssertionError):
            taken[dynamic] = 0
    assert taken == {True: 3, False: 0}


def test_other_dimensions_are_fixed() -> None:
    recorded = program(TinyResNet().eval(), {"x": images()}, dynamic=True)
    (name,) = [n for n in recorded.graph.nodes if n.op == "placeholder" and n.name == "x"]
    shape = name.meta["val"].shape
    assert not isinstance(shape[0], int)
    assert shape[1:] == torch.Size(images().shape[1:])
