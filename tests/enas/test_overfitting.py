import pytest

from refiner.core.errors import DataError
from refiner.enas.overfitting import architecture_overfitting

NAS = {"LFW": 97.85, "Cifar": 95.43, "CFP-FP": 88.97, "AgeDB30": 86.33}
RESNET = {"Cifar": 94.15, "LFW": 98.36, "CFP-FP": 89.99, "AgeDB30": 88.28}


def test_table_1_of_the_paper() -> None:
    found = architecture_overfitting(NAS, RESNET, search_task="Cifar")
    assert found.tasks == ("Cifar", "LFW", "CFP-FP", "AgeDB30")
    assert found.search_advantage == pytest.approx(1.28)
    assert found.other_advantage == pytest.approx((-0.51 - 1.02 - 1.95) / 3)
    assert found.gap == pytest.approx(1.28 + 1.16)
    text = found.to_markdown(searched="NAS-Arch", handmade="ResNet-20")
    assert text.splitlines() == [
        "| architecture | Cifar | LFW | CFP-FP | AgeDB30 |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| NAS-Arch | 95.43 | 97.85 | 88.97 | 86.33 |",
        "| ResNet-20 | 94.15 | 98.36 | 89.99 | 88.28 |",
        "| difference | +1.28 | -0.51 | -1.02 | -1.95 |",
        "",
        "Advantage on Cifar, searched on: +1.28; on the other tasks, on average: -1.16; gap: +2.44.",
    ]


def test_an_advantage_everywhere_is_no_overfitting() -> None:
    ours, theirs = {"a": 0.8, "b": 0.75}, {"a": 0.7, "b": 0.6}
    found = architecture_overfitting(ours, theirs, search_task="a")
    assert found.gap == pytest.approx(-0.05)
    assert "on the other task:" in found.to_markdown()


def test_scores_that_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="only one of the two has a score on b"):
        architecture_overfitting({"a": 1.0, "b": 1.0}, {"a": 1.0}, search_task="a")
    for scores in ({"a": 1.0}, {"b": 1.0, "c": 1.0}, {}):
        with pytest.raises(DataError, match="Give those on a"):
            architecture_overfitting(scores, scores, search_task="a")
