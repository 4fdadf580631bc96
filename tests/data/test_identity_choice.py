from pathlib import Path

import numpy as np
import pytest

from refiner.core.errors import ConfigError, DataError
from refiner.data.identity_choice import IdentityChoice, check_positive

LABELS = np.repeat([0, 1, 2, 3], [5, 4, 3, 1])


def choice(**numbers) -> IdentityChoice:
    given = {
        "identities": None, "images": None, "train_images": None, "min_images": 2,
        "validation_share": None, "limit": None, "seed": 0,
    }  # fmt: skip
    return IdentityChoice(**given | numbers)


def test_all_identities_of_two_images_and_a_fifth_of_each_validates() -> None:
    drawn = choice().draw(Path("faces"), LABELS)
    assert drawn.identities.tolist() == [0, 1, 2]
    assert np.bincount(LABELS[drawn.val]).tolist() == [1, 1, 1]
    assert sorted([*drawn.train, *drawn.val]) == sorted(drawn.picked) == list(range(12))


def test_drawn_identities_have_the_images_asked_for() -> None:
    drawn = choice(identities=2, images=4, train_images=3).draw(Path("faces"), LABELS)
    assert drawn.identities.tolist() == [0, 1]
    assert np.bincount(LABELS[drawn.train]).tolist() == [3, 3]
    assert np.bincount(LABELS[drawn.val]).tolist() == [1, 1]


def test_a_limit_leaves_identities_out() -> None:
    drawn = choice(limit=7).draw(Path("faces"), LABELS)
    assert len(drawn.identities) == 2
    assert set(LABELS[drawn.train]) == set(LABELS[drawn.val]) == set(drawn.identities)


def test_errors_name_the_number_or_the_folder() -> None:
    with pytest.raises(ConfigError, match=r"train_images is 4 of 4\. Give 1 to 3\."):
        choice(identities=2, images=4, train_images=4)
    with pytest.raises(ConfigError, match="min_images is 0"):
        choice(min_images=0)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        check_positive(limit=None, batch_size=0)
    with pytest.raises(DataError, match="faces has 2 identities of 4 images or more, 3 are wanted"):
        choice(identities=3, images=4).draw(Path("faces"), LABELS)
