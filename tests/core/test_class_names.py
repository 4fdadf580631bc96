import pytest

from refiner.core.class_names import check_class_names
from refiner.core.errors import ConfigError


def test_classes_of_the_data_have_to_be_the_model_s() -> None:
    own = ["cat", "dog", "fox"]
    check_class_names(own, ("cat", "dog", "fox"), "here")
    check_class_names(own, ["a", "b", "c"], "here")  # other names say nothing of their order
    with pytest.raises(ConfigError, match="3 classes, and here has 2"):
        check_class_names(own, ["cat", "dog"], "here")
    with pytest.raises(ConfigError, match="class 0 is 'cat' in the model, and 'dog' in here"):
        check_class_names(own, ["dog", "cat", "fox"], "here")
