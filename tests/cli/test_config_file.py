"""Config files: what is printed, and what is read."""

from itertools import product

import pytest
import yaml
from refiner.cli.config_file import config_text, print_config, read_config
from refiner.cli.config_settings import COMMAND_LINE_ONLY, settings
from refiner.cli.request import RunRequest, kept_form

from refiner.core.errors import ConfigError
from refiner.runs.run_folder import RunFolder


@pytest.fixture
def read(tmp_path):
    def given(text: str) -> dict:
        (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
        return read_config(tmp_path / "run.yaml")

    return given


def test_what_is_printed_and_read_again_gives_the_request_without_a_file(read) -> None:
    given = read(config_text({}))
    assert RunRequest.of("timm:resnet18", given) == RunRequest.of("timm:resnet18", {})


def test_a_run_s_values_are_read_back(read) -> None:
    ran = {
        "trials": 7, "lr": 1e-6, "budget": ["macs=60%", "latency=80%"], "precision": "bf16",
        "candidates": "keep0.5,convs", "baselines": False, "distill": True, "pretrained": True,
        "unlabelled": True, "weights": "ä: [1].pt", "data": "folder:a b", "log": ["mlflow"],
    }  # fmt: skip
    assert read(config_text({**ran, "force": True, "model": "timm:resnet18"})) == ran


def test_code_that_a_folder_names_is_left_to_the_user(read) -> None:
    text = config_text({"data": "/theirs/evil.py:loaders", "task": "segmentation"})
    assert read(text) == {"task": "segmentation"}
    assert "# The run had this code: data: /theirs/evil.py:loaders\n" in text


def test_every_setting_is_printed_with_its_help_and_in_the_groups_of_the_help() -> None:
    text = config_text({})
    names = [each.shown for each in settings().values()]
    assert list(yaml.safe_load(text)) == names
    panels = [line.strip("# -") for line in text.splitlines() if line.startswith("# ----")]
    assert panels == ["Model", "Data", "Budget", "Search", "Fine-tuning", "Output", "Paper"]
    assert "# Images per training batch. Default: 64.\nbatch-size: 64\n" in text
    assert not COMMAND_LINE_ONLY & set(settings())


@pytest.mark.parametrize(("pretrained", "budget"), product([False, True], [[], ["macs=60%"]]))
def test_a_default_that_is_printed_holds_for_every_run(pretrained, budget) -> None:
    """Else a file would change a run by naming the default."""
    given = {"pretrained": pretrained, "budget": budget}
    named = {each.name: each.default for each in settings().values() if each.default is not None}
    plain = RunRequest.of("timm:resnet18", given)
    full = RunRequest.of("timm:resnet18", {**named, **given})
    assert full.settings() == plain.settings()
    assert full.source == plain.source


def test_values_may_be_written_as_yaml_has_them(read) -> None:
    given = read(
        "batch_size: 32\nlr: 1e-3\ntimeout: 5\nbudget: 0.6\nmean: [0.5, 0.4, 0.3]\nstd: 0.2\n"
        "precision: no\nonly: layer3\nskip: null\n"
    )
    assert given == {
        "batch_size": 32, "lr": 0.001, "timeout": 5.0, "budget": ["0.6"], "mean": "0.5,0.4,0.3",
        "std": "0.2", "only": ["layer3"],
    }  # fmt: skip
    assert read("") == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("trials: many", "trials is 'many'. Give a whole number."),
        ("trials: 1.5", "trials is 1.5. Give a whole number."),
        ("seed: false", "seed is False. Give a whole number."),
        ("lr: fast", "lr is 'fast'. Give a number."),
        ("pretrained: 1", "pretrained is 1. Give true or false."),
        ("weights: true", "weights is True. Give a text."),
        ("budget: [[1]]", "budget is [1]. Give a text, or a list with a text in each place."),
        ("slots: con", "slots is 'con'. Choose one of: auto, conv, block, all, group."),
        ("slots: [conv]", "slots is ['conv']. Choose one of: auto,"),
        ("log: [tensorbord]", "log is 'tensorbord'. Choose one of: tensorboard, wandb, mlflow."),
        ("batch-sise: 4", "there is no setting 'batch-sise'. Did you mean batch-size?"),
        ("1: 4", "there is no setting '1'. `refine config` lists them all."),
        ("trust-weights: true", "trust-weights belongs on the command line."),
        ("out: there", "out belongs on the command line."),
        ("- a", "holds no settings. Write lines such as `trials: 40`."),
        ("a: [1", "is no YAML: expected ',' or ']', but got '<stream end>' in line 1."),
        ("a: !!python/object/apply:os.getcwd []", "is no YAML: could not determine a constructor"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(text, fault, read) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert fault in str(caught.value)
    assert "run.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml cannot be read: FileNotFoundError"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="binary"):
        read_config(tmp_path / "binary")


def test_a_folder_s_settings_are_printed(tmp_path, capsys) -> None:
    kept = kept_form(RunRequest.of("timm:resnet18", {"trials": 7}))
    RunFolder.create(tmp_path / "run", {"provenance": {"command": kept}})
    print_config(tmp_path / "run")
    assert "\ntrials: 7\n" in capsys.readouterr().out
