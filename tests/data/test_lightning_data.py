import pytest
import torch
from lightning_modules import written

import refiner
from refiner.core.errors import DataError
from refiner.data.lightning_data import data_of, has_loaders, is_data_module, named_data
from refiner.data.unseen import with_test

lightning = pytest.importorskip("lightning")


@pytest.fixture
def lit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return written(tmp_path)


def test_a_data_module_is_loaded_by_name(lit) -> None:
    state = torch.get_rng_state()
    data = refiner.load_data("lightning:lit.py:Colours")
    assert torch.equal(torch.get_rng_state(), state)
    again = refiner.load_data("lightning:lit.py:Colours")
    assert data.train.dataset.indices == again.train.dataset.indices, "the seed decides"
    assert len(data.train) == 3
    assert next(iter(data.val))[0].shape == (24, 3, 8, 8)
    assert data.test is None
    assert is_data_module(lit.Colours())
    assert not is_data_module(lit.Classifier())


def test_a_function_may_return_one(lit, tmp_path) -> None:
    (tmp_path / "colours.py").write_text(
        "from lit import Colours\ndef make():\n    return Colours()"
    )
    assert len(refiner.load_data("colours.py:make").train) == 3
    assert len(refiner.load_data("lightning:colours.py:make").train) == 3


def test_a_module_may_have_its_own_loaders(lit) -> None:
    model = lit.WithLoaders()
    assert has_loaders(model)
    assert not has_loaders(lit.Classifier())
    assert len(data_of(model).val) == 1, "a list of one loader is that loader"


def test_test_loaders_are_taken(lit, tmp_path) -> None:
    text = "import lit\nclass Tested(lit.Colours):\n    def test_dataloader(self):\n"
    (tmp_path / "more.py").write_text(text + "        return self.val_dataloader()\n")
    data = named_data("lightning:more.py:Tested", seed=0)
    assert len(data.test) == 2
    assert len(with_test(data, "lightning:more.py:Tested").test) == 2
    with pytest.raises(DataError, match="has no test_dataloader"):
        with_test(data, "lightning:lit.py:Colours")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def __init__(self, root):\n        super().__init__()", "without arguments"),
        ("def setup(self, stage):\n        self.trainer.world_size", "work without a Trainer"),
        ("def train_dataloader(self):\n        return [1, 2]", "gives 2 loaders for train"),
        ("def on_after_batch_transfer(self, batch, i):\n        return batch", "changes batches"),
    ],
)
def test_data_that_does_not_work_is_refused(lit, tmp_path, body, message) -> None:
    (tmp_path / "bad.py").write_text(f"import lit\nclass Bad(lit.Colours):\n    {body}\n")
    with pytest.raises(DataError, match=message):
        named_data(f"lightning:{tmp_path / 'bad.py'}:Bad", seed=0)


def test_other_classes_are_refused(lit) -> None:
    with pytest.raises(DataError, match="gives a Classifier"):
        named_data("lightning:lit.py:Classifier", seed=0)
