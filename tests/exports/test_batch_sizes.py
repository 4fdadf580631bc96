import pytest
import torch
from models import TinyResNet, images
from torch import nn

from refiner.exports.batch_sizes import BatchSizes, batch_sizes, listed, only, resized


def test_one_and_other_batch_sizes_are_tried() -> None:
    model, seen = TinyResNet().eval(), set()

    def run(x):
        seen.add(len(x))
        return model(x)

    sizes = batch_sizes(model, run, images())
    assert str(sizes) == "any batch size"
    assert sizes.held == (1, 2, 3, 4, 5, 9)
    assert seen == set(sizes.held)


def test_the_model_runs_once_for_each_other_size() -> None:
    model, ran = TinyResNet().eval(), []
    model.register_forward_hook(lambda _module, given, _output: ran.append(given[0].shape[0::2]))
    plain = TinyResNet().eval()
    plain.load_state_dict(model.state_dict())
    batch_sizes(model, plain, images())
    assert sorted(ran) == [
        (1, 8),
        (2, 5),
        (2, 8),
        (2, 8),
        (2, 26),
        (2, 72),
        (3, 8),
        (4, 8),
        (5, 8),
        (9, 8),
    ]


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        (lambda n: True, "any batch size"),
        (lambda n: n > 1, "batches of 2 or more, not of 1"),
        (lambda n: n == 2, "batches of 2 alone"),
        (lambda n: n < 4, "batches of 1, 2 and 3, not of 4, 5 and 9"),
        (lambda n: n % 2 == 0, "batches of 2 and 4, not of 1, 3, 5 and 9"),
    ],
)
def test_what_is_said_is_what_holds(holds, said) -> None:
    model = TinyResNet().eval()

    def run(x):
        return model(x) if holds(len(x)) else model(x) + 1

    sizes = batch_sizes(model, run, images())
    assert str(sizes) == said
    assert sizes.complete == (said == "any batch size")


def test_an_error_on_the_example_itself_is_raised() -> None:
    model = TinyResNet().eval()
    with pytest.raises(AssertionError):
        batch_sizes(model, lambda x: model(x) + (1 if len(x) == 2 else 0), images())


def test_sizes_that_the_model_refuses_are_no_fault_of_the_export() -> None:
    class Clips(nn.Module):
        """Takes clips of four frames, which are folded into the batch."""

        def forward(self, x):
            return x.reshape(-1, 4, *x.shape[1:]).mean(1)

    sizes = batch_sizes(Clips(), Clips(), images(4))
    assert sizes == BatchSizes(held=(4, 8), refused=(1, 2, 3, 5, 9))
    assert sizes.complete
    assert str(sizes) == ("any batch size that the model takes (4 and 8, not 1, 2, 3, 5 and 9)")


def test_no_two_samples_of_a_larger_batch_are_equal() -> None:
    x = torch.arange(1.0, 3)[:, None]
    assert resized(x, 1).tolist() == [[1]]
    assert resized(x, 5).flatten().tolist() == pytest.approx([1, 2, 0.9, 1.8, 0.81])
    by_name = resized({"x": x, "ids": torch.tensor([7, 8]), "scale": 3.0}, 3)
    assert by_name["ids"].tolist() == [7, 8, 7]
    assert by_name["scale"] == 3.0
    pictures = resized(([x[0], x[1]],), 3)[0]
    assert [float(each) for each in pictures] == pytest.approx([1, 2, 0.9])


def test_what_has_no_batch_says_nothing_of_others() -> None:
    sizes = batch_sizes(nn.Identity(), nn.Identity(), torch.tensor(3.0))
    assert sizes == only(torch.tensor(3.0)) == BatchSizes(held=(1,))
    assert str(sizes) == "batches of 1 alone"


def test_numbers_in_a_sentence() -> None:
    assert [listed((1,)), listed((1, 2)), listed((1, 2, 3))] == ["1", "1 and 2", "1, 2 and 3"]
