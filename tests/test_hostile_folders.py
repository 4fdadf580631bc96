"""A run's folder is data: whatever its files name, opening it runs nothing and ends in one line."""

import copy
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refiner.cli.app import main
from refiner.cli.request import RunRequest, TrainRequest, request_from

import refiner
from refiner.core.contents import from_json
from refiner.core.errors import RefinerError
from refiner.core.models import ModelSpec
from refiner.core.user_code import load_function, only_named
from refiner.enas.assigned_reward import read_trials
from refiner.runs.comparison import baselines_from_json
from refiner.runs.html_files import Extras
from refiner.runs.html_page import html_page, write_page
from refiner.runs.run_folder import RunFolder

SMALL = ["--warmup-epochs", "0", "--search-epochs", "1", "--trials", "2", "--samples", "2", "--limit",
         "64", "--image-size", "16", "--device", "cpu", "--epochs", "1", "--slots", "conv"]  # fmt: skip
NET = """
from torch import nn

def build_model(num_classes=10):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(),
                         nn.LazyLinear(num_classes)) if False else Net(num_classes)

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.fc(self.one(self.stem(x)).mean((2, 3)))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run of a file's model."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "net.py").write_text(NET)
    assert main([f"{folder}/net.py:build_model", *SMALL, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def edit(file: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def spec(**fields) -> Callable[[Path, Path], None]:
    """Forge how the model is made, in architecture.json."""

    def forge(run: Path, owned: Path) -> None:
        def change(document: dict) -> None:
            text = json.dumps(fields).replace("OWNED", str(owned)).replace("RUN", str(run))
            document["model"]["spec"] |= json.loads(text)

        edit(run / "architecture.json", change)

    return forge


def command(**fields) -> Callable[[Path, Path], None]:
    """Forge the command of an unfinished run, in config.json."""

    def forge(run: Path, owned: Path) -> None:
        (run / "report.json").unlink()

        def change(document: dict) -> None:
            text = json.dumps(fields).replace("OWNED", str(owned)).replace("RUN", str(run))
            kept = document["provenance"]["command"] | {"model": "timm:resnet10t"}
            document["provenance"]["command"] = kept | json.loads(text)

        edit(run / "config.json", change)

    return forge


def evil_file(run: Path, owned: Path) -> None:
    (run / "evil.py").write_text(
        f"open({str(owned)!r}, 'w')\n"
        "def build_model(**more): ...\n"
        "def loaders(): ...\n"
        "def run(settings): ...\n"
    )


class Evil:
    def __init__(self, owned: Path) -> None:
        self.owned = str(owned)

    def __reduce__(self):
        return (open, (self.owned, "w"))


def pickled(name: str) -> Callable[[Path, Path], None]:
    def forge(run: Path, owned: Path) -> None:
        if (run / "report.json").exists() and name.startswith("checkpoint"):
            (run / "report.json").unlink()
        (run / name).unlink(missing_ok=True)
        torch.save({"state_dict": Evil(owned), "epoch": Evil(owned)}, run / name)

    return forge


def scripted(run: Path, owned: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), buffer)
    (run / "refined.safetensors").write_bytes(buffer.getvalue())


def pipe(run: Path, owned: Path) -> None:
    (run / "refined.safetensors").unlink()
    os.mkfifo(run / "refined.safetensors")


def recipe(run: Path, owned: Path) -> None:
    kept = {"recipe": f"{run}/evil.py", "data": None, "data_root": ".", "scale": 1.0,
            "pretrain": True, "seed": 0, "device": "cpu", "precision": "no"}  # fmt: skip
    edit(run / "config.json", lambda document: document.update(provenance={"recipe": kept}))


def seeds(run: Path, owned: Path) -> None:
    kept = json.loads((run / "config.json").read_text())["provenance"]["command"]
    kept |= {"model": f"{run}/evil.py:build_model"}
    (run / "seeds.json").write_text(json.dumps({"seeds": 2, "command": kept}))


EXPORT, APPLY, RESUME = (
    ["export", "RUN", "--to", "new.ts"],
    ["apply", "RUN", "1"],
    ["--resume", "RUN"],
)
DATA, CODE = "A folder is data", "asks to run"
HOSTILE: dict[str, tuple[Callable[[Path, Path], None], list[str], str]] = {
    "os:system in a spec": (spec(source="os:system", arguments={"command": "touch OWNED"}), EXPORT, DATA),
    "subprocess in a spec": (
        spec(source="subprocess:run", arguments={"args": ["touch", "OWNED"]}), APPLY, DATA,
    ),
    "a file of the folder": (spec(source="RUN/evil.py:build_model"), EXPORT, DATA),
    "a file above the folder": (spec(source="RUN/../run/evil.py:build_model"), APPLY, DATA),
    "a name with a path inside": (spec(source="timm:os.system"), EXPORT, "timm has no model"),
    "a builder that is none": (spec(source="torchvision:get_model"), EXPORT, "has no model"),
    "a repository of the hub": (spec(source="timm:hf-hub:evil/model", pretrained=True), EXPORT, DATA),
    "a folder as a model": (spec(source="timm:local-dir:RUN"), EXPORT, "timm has no model"),
    "a file in timm's arguments": (
        spec(source="timm:resnet10t", arguments={"pretrained_cfg_overlay": {"file": "RUN/evil.pt"}}),
        EXPORT, DATA,
    ),
    "a checkpoint in timm's arguments": (
        spec(source="timm:resnet10t", arguments={"checkpoint_path": "evil.pt"}), EXPORT, DATA,
    ),
    "a pickle as weights": (
        lambda run, owned: (
            spec(source="timm:resnet10t", classes=10, weights="RUN/evil.pt")(run, owned),
            pickled("evil.pt")(run, owned),
        ), APPLY, "holds more than weights",
    ),
    "a pickle as the refined weights": (pickled("refined.safetensors"), [*EXPORT, "--trust"], "cannot be loaded"),
    "TorchScript as the refined weights": (scripted, [*EXPORT, "--trust"], "cannot be loaded"),
    "a pipe as the refined weights": (pipe, [*EXPORT, "--trust"], "is not a regular file"),
    "code in a command": (command(model="RUN/evil.py:build_model"), RESUME, CODE),
    "data in a command": (command(data="RUN/evil.py:loaders"), RESUME, CODE),
    "data of a package": (command(data="os:getcwd"), RESUME, CODE),
    "a task in a command": (command(task="RUN/evil.py:build_model"), RESUME, CODE),
    "trust in a command": (
        command(model="RUN/evil.py:build_model", trust=True, trust_weights=True), RESUME, CODE,
    ),
    "arguments in a command": (
        command(model_arg=["pretrained_cfg={'file': 'RUN/evil.pt'}"]), RESUME, CODE,
    ),
    "a recipe": (recipe, RESUME, CODE),
    "seeds": (seeds, RESUME, CODE),
    "seeds of a training": (command(name="train", model="RUN/evil.py:build_model"), ["train", *RESUME], CODE),
    "a pickle as a checkpoint": (pickled("checkpoint/search.pt"), [*RESUME, "--trust"], "is cut off or not"),
    "a pickle as weights to begin with": (
        pickled("refined.safetensors"),
        ["train", "timm:resnet10t", "--weights", "RUN", "--epochs", "1", "--limit", "64"],
        "holds more than weights",
    ),
}  # fmt: skip


def one_error(arguments: list[str], run: Path, capsys) -> str:
    capsys.readouterr()
    assert main([str(run) if word == "RUN" else word for word in arguments]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    return errors[0]


@pytest.mark.parametrize("name", list(HOSTILE))
def test_nothing_runs(name: str, run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    forge, arguments, message = HOSTILE[name]
    owned = tmp_path / "owned"
    evil_file(run, owned)
    forge(run, owned)
    assert message in one_error(arguments, run, capsys)
    assert not owned.exists()
    assert not (tmp_path / "new.ts").exists()


def test_the_refusal_shows_what_would_run_and_the_command_that_goes_on(
    run, capsys, monkeypatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    source = json.loads((run / "architecture.json").read_text())["model"]["spec"]["source"]
    told = one_error(["export", "RUN"], run, capsys)
    assert f"refine export {run} --model {source}; or add --trust." in told
    assert main(["export", str(run), "--model", source, "--to", "a.ts"]) == 0
    assert main(["export", str(run), "--trust", "--to", "b.ts"]) == 0
    other = tmp_path / "other.py"
    other.write_text(NET)
    assert "was made with --model" in one_error(
        ["export", "RUN", "--model", f"{other}:build_model"], run, capsys
    )
    (run / "report.json").unlink()
    told = one_error(["--resume", "RUN"], run, capsys)
    assert f"refine --resume {run} {source}; or" in told
    assert main(["--resume", str(run), source]) == 0
    assert main(["apply", str(run), "1", "--model", source]) == 0


def test_a_run_of_a_library_needs_no_word(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["timm:resnet10t", *SMALL, "--no-baselines", "--epochs", "0", "--out", "run",
                 "--model-arg", "drop_rate=0.1", "--model-arg", "act_layer=relu"]) == 0  # fmt: skip
    assert main(["export", "run", "--to", "new.ts"]) == 0
    Path("run/report.json").unlink()
    assert main(["--resume", "run"]) == 0


ESCAPES = "\x1b]0;owned\x07\x1b[2J<script>x</script>[a](javascript:x)\ud800\u202e|\n# head"


def test_names_reach_neither_the_terminal_nor_a_page_as_commands(run, capsys) -> None:
    def change(document: dict) -> None:
        document["notes"] = [ESCAPES]
        document["settings"] = [["model", ESCAPES]]
        document["metric"] = document["slots"][0]["name"] = ESCAPES
        document["baselines"][0]["name"] = ESCAPES

    edit(run / "report.json", change)
    one_error(["report", "RUN"], run, capsys)  # half a letter is not text
    escapes = ESCAPES.replace("\ud800", "")
    edit(run / "report.json", lambda document: document.update(
        json.loads(json.dumps(document).replace("\\ud800", ""))
    ))  # fmt: skip
    (run / "\x1b[2Jfile").touch()
    for arguments in (["report", str(run)], ["compare", str(run)]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert not {"\x1b]", "\x07", "\x1b[2J", "\u202e"} & {
            shown[i : i + n] for i in range(len(shown)) for n in (1, 2, 4)
        }
    page = (run / "report.md").read_text()
    assert not re.search(r"(?<!\\)\]\(", page)
    for text in (page, (run / "report.html").read_text()):
        assert "<script>" not in text
        assert "\x1b" not in text
        assert escapes not in page


LINKS = {
    "config": ("config.json", "/dev/zero", ["--resume", "RUN"]),
    "architecture": ("architecture.json", "/dev/zero", ["export", "RUN"]),
    "report": ("report.json", "/dev/zero", ["report", "RUN"]),
    "metrics": ("metrics.jsonl", "/dev/zero", ["report", "RUN"]),
    "front": ("pareto.json", "/dev/zero", ["report", "RUN"]),
}


@pytest.mark.parametrize("name", list(LINKS))
def test_links_to_devices_and_pipes_are_refused(name: str, run, capsys) -> None:
    file, target, arguments = LINKS[name]
    (run / file).unlink()
    (run / file).symlink_to(target)
    one_error(arguments, run, capsys)
    (run / file).unlink()
    os.mkfifo(run / file)
    one_error(arguments, run, capsys)


def test_nothing_is_written_through_a_link(run, tmp_path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in ("report.md", "report.md.partial", "report.html", "report.html.partial"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(mine)
    assert main(["report", str(run)]) == 0
    assert mine.read_text() == "mine"
    shutil.rmtree(run / "checkpoint")
    (tmp_path / "away").mkdir()
    (run / "checkpoint").symlink_to(tmp_path / "away")
    with pytest.raises(RefinerError, match="is a link"):
        RunFolder.open(run).save_checkpoint("search", {})
    assert not list((tmp_path / "away").iterdir())


@pytest.mark.parametrize("file", ["config.json", "report.json", "architecture.json", "pareto.json"])
def test_a_newer_format_is_one_line(file: str, run, capsys) -> None:
    edit(run / file, lambda document: document.update(format_version=99))
    arguments = {
        "architecture.json": ["export", "RUN"],
        "pareto.json": ["apply", "RUN", "--pick", "macs=90%"],
    }.get(file, ["report", "RUN"])
    assert "version" in one_error(arguments, run, capsys)


def test_a_newer_checkpoint_is_one_line(run) -> None:
    state = torch.load(run / "checkpoint" / "search.pt", weights_only=True)
    torch.save({**state, "format_version": 99}, run / "checkpoint" / "search.pt")
    with pytest.raises(RefinerError, match="written by a newer refiner"):
        RunFolder.open(run).load_checkpoint("search")


@pytest.mark.parametrize(
    "source", ["os:system", "subprocess:Popen", "builtins:exec", "importlib:import_module", "pickle:loads",
               "torch:load", "shutil:rmtree", "runpy:run_path"],
)  # fmt: skip
def test_a_spec_of_the_command_line_calls_nothing_but_builders(
    source, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    if source == "torch:load":  # its own function, which finds no file
        arguments = ["--model-arg", "f=none.pt"]
    else:
        arguments = ["--model-arg", "command=touch owned"]
    assert main(["slots", source, *arguments]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert ("belongs to Python itself" in err) == (source != "torch:load")
    assert not (tmp_path / "owned").exists()
    for option in ("--data", "--task"):
        assert main(["timm:resnet10t", option, source]) == 2


def test_only_what_a_file_defines_is_called(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blocks_z.py").write_text(
        "from torch import nn\ndef near(): return nn.Conv2d(3, 1, 1)\n"
    )
    (tmp_path / "net_z.py").write_text(
        "import functools\nfrom os import system\nfrom subprocess import run\n"
        "from torch import nn\nfrom torch.nn import Conv2d\nfrom blocks_z import near\n"
        "def build(width=1): return nn.Conv2d(3, width, 1)\n"
        "wide = functools.partial(build, width=4)\n"
        "sneaky = functools.partial(system, 'touch owned')\n"
        "class Net(nn.Conv2d):\n    def __init__(self): super().__init__(3, 2, 1)\n"
        "class Other: ...\n"
    )
    for name, channels in (("build", 1), ("wide", 4), ("Net", 2), ("near", 1)):
        assert ModelSpec(source=f"{tmp_path}/net_z.py:{name}").build().out_channels == channels
    refusal = "is not defined in|no torch.nn.Module|not the name of a function|has no function"
    for name in (
        "system",
        "run",
        "sneaky",
        "Conv2d",
        "Other",
        "__import__",
        "nn.Conv2d",
        "functools",
    ):
        with pytest.raises(RefinerError, match=refusal):
            ModelSpec(source=f"{tmp_path}/net_z.py:{name}").build()
    assert not (tmp_path / "owned").exists()


def test_in_python_a_spec_from_a_file_follows_the_same_rule(run) -> None:
    kept = refiner.Architecture.load(run / "architecture.json").model["spec"]
    with pytest.raises(RefinerError, match="A folder is data"):
        ModelSpec.from_json(kept, run)
    assert ModelSpec.from_json(kept, run, trust=True).build()
    assert ModelSpec.from_json(kept, run, named=[kept["source"]]).source == kept["source"]
    with only_named(run, ()), pytest.raises(RefinerError, match="A folder is data"):
        load_function(kept["source"], ValueError)


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from(["os:system", "timm:resnet10t", "../..", "conv", -1, 2**62, 1e308, "\x1b["]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Return the paths to all values inside a document."""
    found = [path] if path else []
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return found + [each for key, inner in items for each in places(inner, (*path, key))]


def mutated(document: dict, data: st.DataObject) -> object:
    """Return a document with a few of its values replaced or removed."""
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        known = places(document)
        if not known:
            break
        *way, last = data.draw(st.sampled_from(known))
        inner = document
        for key in way:
            inner = inner[key]
        if isinstance(inner, dict) and data.draw(st.booleans()):
            del inner[last]
        else:
            inner[last] = data.draw(VALUES)
    return document


def read_config(run: Path) -> None:
    kept = RunFolder.open(run).config().get("provenance")
    kept = kept.get("command") if isinstance(kept, dict) else None
    for kind in (RunRequest, TrainRequest):
        request_from(kind, kept, run)


def read_architecture(run: Path) -> None:
    made = refiner.Architecture.load(run / "architecture.json").model or {}
    from_json(made.get("example_input", {}))
    ModelSpec.from_json(made.get("spec"), run)


def read_report(run: Path) -> None:
    report = refiner.Report.from_json(RunFolder.open(run).read_json("report.json"))
    report.to_markdown()
    report.summary()
    html_page(report, Extras())


def read_extras(run: Path) -> None:
    """Read a file that report.html shows, and draw the page with it."""
    (run / "report.json").write_bytes((run.parent / "run" / "report.json").read_bytes())
    folder = RunFolder.open(run)
    write_page(folder, refiner.Report.from_json(folder.read_json("report.json")))


READERS: dict[str, Callable[[Path], object]] = {
    "config.json": read_config,
    "architecture.json": read_architecture,
    "report.json": read_report,
    "pareto.json": read_extras,
    "metrics.jsonl": read_extras,
    "baselines.json": lambda run: baselines_from_json(
        RunFolder.open(run).read_json("baselines.json")
    ),
    "latency.json": read_extras,
}
LATENCY = {
    "conditions": {"runtime": "eager 2", "device": "a CPU", "precision": "no", "batch": 1},
    "model": {"median": 1.0, "noise": 0.1},
    "slots": {"one": {name: {"median": 1.0, "noise": 0.1} for name in ("original", "keep0.5")}},
    "changes": {"one": {"keep0.5": [-0.5, 0.5]}},
    "kinds": {"one": "one"},
    "anchors": [{"operations": {"one": "keep0.5"}, "share": 0.5}],
    "scales": {"one": 1.0},
}


@pytest.mark.parametrize("file", list(READERS))
@given(data=st.data())
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_readers_work_or_say_why_not(file: str, finished, data) -> None:
    own = finished / file
    line = own.read_text().splitlines()[0] if file == "metrics.jsonl" else None
    document = json.loads(line or own.read_text()) if own.exists() else LATENCY
    folder = finished.parent / f"fuzzed-{file}"
    folder.mkdir(exist_ok=True)
    shutil.copy(finished / "config.json", folder)
    (folder / file).write_text(json.dumps(mutated(document, data)))
    try:
        READERS[file](folder)
    except RefinerError as error:
        assert "\n" not in str(error)


@given(content=st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_in_any_file_are_one_line(content: bytes, finished) -> None:
    folder = finished.parent / "bytes"
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    shutil.copy(finished / "config.json", folder)
    for file in ("metrics.jsonl", "checkpoint/search.pt"):
        (folder / file).write_bytes(content)
    for read in (
        lambda: RunFolder.open(folder),
        lambda: RunFolder(folder).load_checkpoint("search"),
        lambda: read_trials(folder / "metrics.jsonl"),
        lambda: refiner.Architecture.load(folder / "metrics.jsonl"),
    ):
        try:
            read()
        except RefinerError as error:
            assert "\n" not in str(error)
