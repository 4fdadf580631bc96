import pytest
import torch

from refiner.core.detection_batches import images_of, is_detection

IMAGE, TARGET = torch.rand(3, 4, 5), {"boxes": torch.zeros(0, 4)}


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (((IMAGE, IMAGE), (TARGET, TARGET)), True),
        ([[IMAGE, IMAGE], [TARGET, TARGET]], True),
        ((torch.rand(2, 3, 4, 5), [TARGET, TARGET]), True),
        (((IMAGE, IMAGE), (TARGET,)), False),
        (((IMAGE, IMAGE), torch.zeros(2)), False),
        ((torch.rand(2, 3, 4, 5), torch.zeros(2)), False),
        (((), ()), False),
        ({"x": IMAGE}, False),
        (((IMAGE[0], IMAGE[0]), (TARGET, TARGET)), False),
    ],
)
def test_the_form_is_recognised(batch, expected) -> None:
    assert is_detection(batch) is expected


def test_images_are_found_with_targets_and_without() -> None:
    both = [IMAGE, 2 * IMAGE]
    for batch in (
        (both, (TARGET, TARGET)), (tuple(both),), both, torch.stack(both), (torch.stack(both),),
        (both, torch.zeros(2)),
    ):  # fmt: skip
        found = images_of(batch)
        assert [torch.equal(a, b) for a, b in zip(found, both, strict=True)] == [True, True]
    assert images_of((torch.zeros(2), torch.zeros(2))) is None
    assert images_of("text") is None
