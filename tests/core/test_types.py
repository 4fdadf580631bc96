from refiner.core.types import Loader


def test_a_list_of_batches_is_a_loader() -> None:
    batches: Loader = [1, 2]
    assert len(batches) == 2
