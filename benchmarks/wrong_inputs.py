"""Wrong inputs: the message for each, the exit status, and the seconds until it comes.

    python benchmarks/wrong_inputs.py [--only NAME]

Each has to end in one line that begins with `error:`, with exit status 2 and without a
traceback, before the search begins. Inputs of the command run in this process through its `main`,
and those of `refiner.refine` raise a RefinerError.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from refiner.cli.app import main as refine_command
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import refiner
from refiner.core.errors import RefinerError

NETS = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Net(nn.Module):
    def __init__(self, num_classes=4, channels=3):
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, num_classes)
    def forward(self, x):
        return self.fc(self.c(self.b(self.a(x).relu()).relu()).mean((2, 3)))

def net(num_classes=4): return Net(num_classes)
def wide(num_classes=4): return Net(num_classes, 7)
def text(): return "text"
def raises(): raise RuntimeError("boom\\nsecond line")
def wants(depth, num_classes=4): return Net(num_classes)
def no_conv(num_classes=4): return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))
def fixed(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(99, 4))
def big_steps(): return nn.Sequential(nn.Conv2d(3, 4, 9, 4), nn.Conv2d(4, 4, 9), nn.Flatten())
def no_task(): return object()
def task_raises(): raise ValueError("no task today")
def one(): return 1
def loaders(): return DataLoader(TensorDataset(torch.randn(16, 3, 8, 8), torch.arange(16) % 4), 8), None
def data_raises(): raise FileNotFoundError("images.h5")
"""


def pictures(root: Path, classes: dict[str, int], size: int = 8, folder: str = "") -> Path:
    """Write folders of pictures: a number for each class."""
    for name, count in classes.items():
        place = root / folder / name
        place.mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (size, size), (40 * i % 255, 80, 10)).save(place / f"{i}.png")
    return root


def prepare(root: Path) -> None:
    """Write the files that the commands name."""
    (root / "nets.py").write_text(NETS)
    (root / "broken.py").write_text("def net(:\n")
    (root / "imports.py").write_text("import nothing_of_this_name\ndef net(): pass\n")
    (root / "notes.txt").write_text("these are notes, not weights")
    (root / "notes.pt").write_text("these are notes, not weights")
    (root / "bad.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all!")
    (root / "taken").mkdir()
    (root / "taken" / "file").write_text("taken")
    (root / "empty").mkdir()
    pictures(root / "images", {"a": 12, "b": 12, "c": 12, "d": 12})
    pictures(root / "single", {"a": 12})
    texts = root / "texts" / "train" / "a"
    texts.mkdir(parents=True)
    (texts / "one.txt").write_text("no picture")
    damaged = pictures(root / "damaged", {"a": 12, "b": 12})
    (damaged / "b" / "3.png").write_bytes(b"\x89PNG no more")
    torch.save({"a.weight": torch.zeros(3)}, root / "other.pt")
    scope: dict[str, Callable[..., nn.Module]] = {}
    exec(NETS, scope)
    torch.save(scope["net"](num_classes=9).state_dict(), root / "nine.pt")
    model = scope["net"]()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    torch.save(model.state_dict(), root / "nan.pt")


GOOD = "nets.py:net --data folder:images --epochs 1 --trials 2 --device cpu"
COMMANDS = {
    "no model": "run",
    "a command misspelt": "exprot run",
    "a model of no source": "resnet18 --data digits",
    "a timm model misspelt": "timm:resnet81 --data digits",
    "a torchvision model misspelt": "torchvision:resnet81 --data digits",
    "a file that is missing": "nowhere.py:net --data digits",
    "a file without a function": "nets.py --data digits",
    "a function that is missing": "nets.py:nett --data digits",
    "a file with a syntax error": "broken.py:net --data digits",
    "a file whose import fails": "imports.py:net --data digits",
    "a builder that returns no module": "nets.py:text --data digits",
    "a builder that raises": "nets.py:raises --data digits",
    "a builder that needs an argument": "nets.py:wants --data digits",
    "a model argument without a value": GOOD + " --model-arg depth",
    "a model argument that is unknown": GOOD + " --model-arg depth=3",
    "a model without convs": "nets.py:no_conv --data folder:images --device cpu",
    "a model of seven channels": "nets.py:wide --data folder:images --device cpu",
    "a model of another image size": "nets.py:fixed --data folder:images --device cpu",
    "images too small for the model": "nets.py:big_steps --data folder:images --device cpu",
    "an unknown option": GOOD + " --bugdet macs=60%",
    "a budget without a resource": GOOD + " --budget 60%",
    "a budget of an unknown resource": GOOD + " --budget memory=60%",
    "a budget below 0": GOOD + " --budget macs=-5",
    "a budget out of reach": GOOD + " --budget macs=1%",
    "a budget twice": GOOD + " --budget macs=60% --budget macs=50%",
    "an unknown strategy": GOOD + " --strategy magic",
    "unknown candidates": GOOD + " --candidates depthwise9x9",
    "empty candidates": GOOD + " --candidates ,",
    "unknown slots": GOOD + " --slots layer",
    "an unknown device": GOOD + " --device tpu",
    "an unknown precision": GOOD + " --precision int4",
    "an unknown schedule": GOOD + " --schedule linear",
    "an unknown task": GOOD + " --task pose",
    "a task that is not a task": GOOD + " --task nets.py:no_task",
    "a task that raises": GOOD + " --task nets.py:task_raises",
    "a task of other labels": GOOD + " --task segmentation",
    "epochs below 0": GOOD.replace("--epochs 1", "--epochs -1"),
    "epochs in words": GOOD.replace("--epochs 1", "--epochs ten"),
    "trials of 0": GOOD.replace("--trials 2", "--trials 0"),
    "a learning rate of 0": GOOD + " --lr 0",
    "a teacher weight of 2": GOOD + " --teacher-weight 2",
    "a batch size of 0": GOOD + " --batch-size 0",
    "an image size of 0": GOOD + " --image-size 0",
    "a timeout of 0": GOOD + " --timeout 0",
    "0 seeds": GOOD + " --seeds 0",
    "unknown data": "nets.py:net --data mnist",
    "a folder of images that is missing": "nets.py:net --data folder:nowhere",
    "a folder without images": "nets.py:net --data folder:empty",
    "a folder of other files": "nets.py:net --data folder:texts",
    "a folder with a single class": "nets.py:net --data folder:single --device cpu",
    "a picture that is damaged": "nets.py:net --data folder:damaged --device cpu",
    "a data function that raises": "nets.py:net --data nets.py:data_raises",
    "a data function that gives no loaders": "nets.py:net --data nets.py:one",
    "weights that are missing": GOOD + " --weights nowhere.pt",
    "weights in a text file": GOOD + " --weights notes.txt",
    "weights in a text file called .pt": GOOD + " --weights notes.pt",
    "weights in a damaged file": GOOD + " --weights bad.safetensors",
    "weights of another network": GOOD + " --weights other.pt",
    "weights of another number of classes": GOOD + " --weights nine.pt",
    "weights that are NaN": GOOD + " --weights nan.pt",
    "distillation without weights": "timm:resnet10t --data digits --distill --device cpu",
    "distillation with a warm-up": GOOD + " --weights nine.pt --distill --warmup-epochs 2",
    "an output folder that is taken": GOOD + " --out taken",
    "an output folder that is a file": GOOD + " --out notes.txt",
    "resuming nothing": "--resume nowhere",
    "resuming a folder of something else": "--resume taken",
    "an option that cannot change": "--resume taken --epochs 3",
    "an export of nothing": "export nowhere",
    "an export of an unknown format": "export taken --format tflite",
    "applying nothing": "apply nets.py:net",
    "a vector in words": "apply nets.py:net big,small --input-size 3,8,8",
    "a vector of another length": "apply nets.py:net 1,1,1,1,1,1 --input-size 3,8,8",
    "an input size in words": "slots nets.py:net --input-size large",
    "evaluating nothing": "eval nowhere",
    "trust without a folder": GOOD + " --trust",
    "a recipe that is missing": "--recipe table9",
    "a scale without a recipe": GOOD + " --scale 0.5",
}


class Net(nn.Module):
    """Three convs and a classifier of four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, N x 4."""
        y = self.c(self.b(self.a(x).relu()).relu()).mean((2, 3))
        return self.fc(self.norm(y))


X, Y = torch.randn(33, 3, 8, 8), torch.arange(33) % 4


def loader(x: torch.Tensor = X[:32], y: torch.Tensor = Y[:32], size: int = 8) -> DataLoader:
    """Return a loader of pairs."""
    return DataLoader(TensorDataset(x, y), size)


def call(model=None, train=None, val=None, **options) -> Callable[[], object]:
    """Return a call of refine() that is right but for what is given."""
    given = {
        "distill": refiner.DistillConfig(steps=1), "budget": "macs=80%", "progress": False,
        "train": refiner.TrainConfig(epochs=1), "device": "cpu",
    } | options  # fmt: skip
    if "settings" in options:
        given = {"settings": options["settings"]}
    return lambda: refiner.refine(
        Net() if model is None else model,
        loader() if train is None else train,
        loader() if val is None else val,
        **given,
    )


class NoCall(refiner.Classification):
    """Never calls the network."""

    def loss(self, _model, _batch):
        """Return a number that no network gave."""
        return torch.zeros((), requires_grad=True)


NAN = X[:32].clone()
NAN[5] = float("nan")
CALLS = {
    "a setting misspelt": call(bugdet="macs=60%"),
    "a budget that is not text": call(budget=[["macs", 60]]),
    "labels from 1": call(train=loader(y=Y[:32] + 1)),
    "labels out of range": call(train=loader(y=torch.arange(32))),
    "labels below 0": call(train=loader(y=Y[:32] - 1)),
    "labels of real numbers": call(train=loader(y=Y[:32].float())),
    "a last batch of one image": call(train=loader(X, Y)),
    "NaN in the images": call(val=loader(NAN)),
    "NaN in the training images": call(train=loader(NAN)),
    "images of one channel": call(train=loader(X[:32, :1]), val=loader(X[:32, :1])),
    "an empty loader": call(train=[]),
    "a loader without a length": call(train=iter([(X, Y)])),
    "batches of another kind": call(train=[(X[:8], Y[:8], Y[:8])], val=[(X[:8], Y[:8], Y[:8])]),
    "a task that is a class": call(task=refiner.Classification),
    "a task that never calls the network": call(task=NoCall()),
    "a test that raises": call(tests={"mine": lambda _: 1 / 0}),
    "a model that is none": call(model="resnet18"),
    "a resume without a folder": call(resume=True),
    "a learning rate of NaN": lambda: refiner.TrainConfig(lr_max=float("nan")),
    "a model on no device": call(model=Net().to("meta")),
}


def answer(run: Callable[[], object]) -> tuple[str, int, float]:
    """Return the last line that an input gets, its exit status, and the seconds."""
    output, begun = io.StringIO(), time.perf_counter()
    status: object
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        try:
            status = run()
        except RefinerError as error:
            print(f"error: {error}")
            status = 2
        except BaseException as error:
            print(f"TRACEBACK {type(error).__name__}: {error}")
            status = 1
    took = time.perf_counter() - begun
    lines = output.getvalue().strip().splitlines() or [""]
    searched = any("search  " in line or "distillation  " in line for line in lines)
    errors = [line for line in lines if line.startswith("error: ")]
    wrong = len(errors) != 1 or lines[-1] != errors[-1] or searched
    return lines[-1], (status if isinstance(status, int) and not wrong else -1), took


def inputs() -> dict[str, Callable[[], object]]:
    """Return all wrong inputs by their names."""
    command = {
        f"refine: {name}": (lambda words=words: refine_command(words.split()))
        for name, words in COMMANDS.items()
    }
    return command | {f"Python: {name}": run for name, run in CALLS.items()}


def run_all(only: str | None = None) -> list[str]:
    """Run the inputs, print a line of each, and return the names of those that fail."""
    failed, slowest = [], 0.0
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as root:
        prepare(Path(root))
        os.chdir(root)
        try:
            for name, run in inputs().items():
                if only is not None and only not in name:
                    continue
                line, status, took = answer(run)
                slowest = max(slowest, took)
                print(f"{took:6.2f} s  exit {status}  {name}\n          {line[:300]}", flush=True)
                if status != 2:
                    failed.append(name)
        finally:
            os.chdir(home)
    print(f"{len(failed)} of {len(inputs())} did not end in one line with exit 2: {failed}")
    print(f"The slowest took {slowest:.1f} s.")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run those whose name holds this")
    sys.exit(bool(run_all(parser.parse_args().only)))
