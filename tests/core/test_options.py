from dataclasses import dataclass, field

from refiner.core.options import option, options_of


@dataclass(frozen=True)
class Settings:
    trials: int = option(10, "How many architectures are evaluated.", panel="Search", metavar="N")
    schedule: str = option("sgdr", "The schedule.", panel="Fine-tuning", choices=("sgdr", "step"))
    inner: list[int] = field(default_factory=list)


def test_an_option_is_a_plain_field_with_its_default() -> None:
    assert Settings() == Settings(trials=10, schedule="sgdr")


def test_options_are_found_in_order_and_other_fields_are_none() -> None:
    found = options_of(Settings)
    assert list(found) == ["trials", "schedule"]
    assert found["trials"][1].metavar == "N"
    assert found["schedule"][1].choices == ("sgdr", "step")
