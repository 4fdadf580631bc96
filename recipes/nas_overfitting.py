"""Architecture overfitting of NAS, which is the paper's case for refining operators alone (section
3).

Three searches on CIFAR-10, or on what --data names: ENAS's of operators and skips by one
controller, the same two domains in turn, and NAR's of ResNet-20's operators alone. Then ENAS's
find and ResNet-20 are trained with equal settings on CIFAR-10 and on recognising faces.
``report.md`` and ``report.json`` say what came out, beside

    figure1.svg          gradient magnitudes of the controllers' heads (figure 1)
    best-reward.svg      the best reward so far of each search (equation 11)
    assigned-reward.svg  the rewards assigned to operators and skips (equations 6 and 7)

The paper's table 1: NAS-Arch 95.43 % on CIFAR-10 and 97.85, 88.97 and 86.33 % on LFW, CFP-FP and
AgeDB30, ResNet-20 94.15 % and 98.36, 89.99 and 88.28 %. Its faces are face-emore's and its measure
is verification. Here they are those of DATA_ROOT/faces (``train/IDENTITY/*.jpg`` or
``IDENTITY/*.jpg``; ``--data-root`` names DATA_ROOT), and the measure is the share of held-out
images put to the right identity. Accuracies are those of the fifth of the images that is kept from
training, which on CIFAR-10 the search has seen; one seed a network.

The paper says nothing of how it searched or trained here. ENAS is its published code (Pham et al.,
2018, github.com/melodyguan/enas: scripts/cifar10_macro_search.sh and src/cifar10), the differences
being those of macro.py, macro_network.py, joint_controller.py and strategy_controller.py, and: no
drop path, no auxiliary head, a fifth of the images rather than a tenth to score on, momentum not
Nesterov's.
"""

import os
from bisect import bisect_left
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from refiner.recipes import resnet20
from torch import nn

import refiner
from refiner.core.errors import ConfigError, DataError
from refiner.data.identities import load_identities
from refiner.data.loaders import example_of
from refiner.enas.alternating import AlternatingStrategy
from refiner.enas.joint import JointConfig, JointStrategy
from refiner.enas.macro import MACRO_OPERATIONS, MacroSpace
from refiner.enas.macro_network import MacroNetwork
from refiner.enas.overfitting_report import draw, write_report
from refiner.runs.recipe import RecipeSettings, Scale
from refiner.runs.run_folder import RunFolder
from refiner.runs.search_run import run_search
from refiner.search.policy_gradient import ControllerStrategy
from refiner.search.scoring import WeightSharing
from refiner.space.architecture import Vector

NODES, OPERATIONS = 12, MACRO_OPERATIONS
"""Section 3.2 and 3.4; ENAS's."""
FILTERS = 36
"""Of the weight-shared network; ENAS's."""
EPOCHS, BATCH_SIZE = 310, 128
"""Of each search; ENAS's. No warm-up, as ENAS has none: --no-pretrain changes nothing here."""
UPDATES, SAMPLES = 50, 20
"""Controller steps an epoch, architectures for each; ENAS's."""
SEARCH_LR_MAX, SEARCH_LR_MIN, WEIGHT_DECAY = 0.05, 0.0005, 5e-4
"""ENAS's; its l2_reg of 0.00025 multiplies the squares, not their halves. SGDR with T_mul 2, the
last cycle ending with the search; ENAS takes T_0 10, which are five cycles, here four."""
LEARNING_RATE, DECAY, TEMPERATURE, TANH_CONSTANT = 0.001, 0.99, 1.0, 1.5
"""Of all controllers; ENAS's. A scaled search has few controller steps and takes a larger rate."""
SKIP_TARGET = 0.4
"""Share of skips that the joint controller is drawn to; ENAS's."""
REWARD_SCALE = 0.03
"""ENAS's weights are in units of the reward, ours of its moving deviation. So theirs are divided
by what that is about: the standard deviation of an accuracy of 0.7 on 256 images, sqrt(0.7 * 0.3 /
256)."""
ENTROPY_WEIGHT, SKIP_WEIGHT = 0.0001 / REWARD_SCALE, 0.8 / REWARD_SCALE
"""ENAS's."""
BETA1, EPSILON = 0.0, 1e-3 / REWARD_SCALE
"""Of the controllers' Adam; ENAS's (src/utils.py). Epsilon stands beside gradients, which go with
the reward's units."""
CHANNELS = resnet20.CHANNELS
"""Section 3.1: 64, 128 and 256."""
CANDIDATES = ("conv3x3", "depthwise3x3", "maxpool3x3", "avgpool3x3")
"""Of the search of operators alone (section 3.4)."""
TRAIN_EPOCHS, LR_MAX, LR_MIN = 150, 0.1, 0.0001
"""Of the final trainings, for both networks and both tasks ("the same training strategy"). The
paper is silent; learning rates and schedule are those of its searches (section 4.1.1)."""
IMAGE_SIZE = 32
"""Height and width of all images: CIFAR-10's, which both networks are made for. The paper is silent
on its faces'."""
FACES_EACH, LEAST_FACES = 40, 10
"""Images of an identity at most, as in the paper's proxy task (section 4.1.1), and at least, which
is ours."""


def run(settings: RecipeSettings) -> None:
    """Search three times, train four networks, draw and report."""
    faces_root = Path(settings.data_root) / "faces"
    if not faces_root.is_dir():
        raise DataError(
            f"there is no folder {faces_root}, whose faces are this recipe's second task. Put "
            "train/IDENTITY/*.jpg into it, or give --data-root DIR with a folder DIR/faces."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("this recipe runs in one process. Start it without torchrun.")
    scale, out = settings.scale, settings.out
    spec = settings.data or "cifar10"
    form, colon, path = spec.partition(":")
    if colon and form not in ("folder", "faces"):
        raise ConfigError(f"{spec} does not name its classes. Give cifar10 or folder:PATH.")
    # With its form: a folder named faces is not the task of that name.
    first_task = f"{form}:{Path(path).name}" if colon else spec
    images = scale.count("training images of the first task", 40_000, least=500)
    first = refiner.load_data(
        spec,
        batch_size=BATCH_SIZE,
        image_size=IMAGE_SIZE,
        root=settings.data_root,
        limit=None if images == 40_000 else images,
        seed=settings.seed,
    )
    faces = load_identities(
        faces_root,
        batch_size=BATCH_SIZE,
        images_per_identity=scale.count("images of an identity", FACES_EACH, least=LEAST_FACES),
        min_images=LEAST_FACES,
        image_size=IMAGE_SIZE,
        seed=settings.seed,
    )
    width = scale.width("channels of ResNet-20's first stage", CHANNELS[0])
    channels = (width, 2 * width, 4 * width)
    space = MacroSpace(nodes=NODES, operations=OPERATIONS)
    searches = search(settings, first, space, channels)
    draw(out, space, searches)

    found = tuple(searches["joint"]["vector"])
    networks = {
        "searched": lambda classes: macro_network(space, found, channels, classes, settings.seed),
        "ResNet-20": lambda classes: resnet20.build_model(classes, channels, seed=settings.seed),
    }
    epochs = scale.count("training epochs", TRAIN_EPOCHS, least=3)
    scores: dict[str, dict[str, float]] = {}
    costs: dict[str, dict[str, int]] = {}
    for name, build in networks.items():
        scores[name] = {}
        for task, data in ((first_task, first), ("faces", faces)):
            folder = out / f"{name}-{task}".lower().replace(":", "-")
            trained = refiner.train_architecture(
                build(len(data.classes)),
                data.train,
                data.val,
                test_loader=data.test,
                config=refiner.TrainConfig(epochs=epochs, lr_max=LR_MAX, lr_min=LR_MIN),
                out=folder,
                resume=settings.resume and folder.exists(),
                notes=scale.notes,
                **settings.running(),
            ).report
            assert trained.trained is not None
            scores[name][task] = 100 * trained.trained.refined
            if data is first:
                costs[name] = {"params": trained.after.params, "macs": trained.after.macs}
    rate = f"learning rate of the controllers {learning_rate(scale):g}"
    notes = (*scale.notes, rate, *filter(None, (first.note, faces.note)))
    write_report(
        out, space, searches, scores, costs,
        search_task=first_task, image_size=IMAGE_SIZE, notes=notes,
    )  # fmt: skip


def search(
    settings: RecipeSettings,
    data: refiner.Data,
    space: MacroSpace,
    channels: tuple[int, int, int],
) -> dict[str, dict[str, Any]]:
    """Return of each search the vector found, its score, and its log, update by update."""
    scale = settings.scale
    updates = scale.count("controller updates per epoch", UPDATES, least=4)
    epochs = scale.count("search epochs", EPOCHS, least=3)
    samples = scale.count("architectures per update", SAMPLES, least=4)
    config = refiner.SearchConfig(
        epochs=epochs,
        warmup_epochs=0,
        trials=epochs * updates * samples,
        samples=samples,
        top_k=scale.count("top-k of a search", 10, least=3),
        weights=refiner.TrainConfig(
            lr_max=SEARCH_LR_MAX, lr_min=SEARCH_LR_MIN, weight_decay=WEIGHT_DECAY
        ),
    )
    filters = scale.width("filters of the macro network", FILTERS)
    classes, seed = len(data.classes), settings.seed
    controller = JointConfig(
        learning_rate=learning_rate(scale),
        beta1=BETA1,
        epsilon=EPSILON,
        decay=DECAY,
        temperature=TEMPERATURE,
        tanh_constant=TANH_CONSTANT,
        entropy_weight=ENTROPY_WEIGHT,
        skip_weight=SKIP_WEIGHT,
        skip_target=SKIP_TARGET,
    )
    # A phase is as long as an epoch has controller steps, so that each begins on weights that
    # moved.
    alternating = AlternatingStrategy(
        space.choices, space.operators, tuple(space.skips),
        seed=seed, period=updates, config=controller,
    )  # fmt: skip
    model = resnet20.build_model(classes, channels, seed=seed)
    slots = refiner.search_space(model, example_of(data.train), candidates=CANDIDATES)
    runs: dict[str, tuple[WeightSharing, refiner.Strategy]] = {
        "joint": (
            MacroNetwork(space, channels=filters, num_classes=classes, seed=seed),
            JointStrategy(space, seed=seed, config=controller),
        ),
        "alternating": (
            MacroNetwork(space, channels=filters, num_classes=classes, seed=seed),
            alternating,
        ),
        "operators": (
            refiner.Supernet(model, slots, seed=seed),
            ControllerStrategy(slots.candidates, seed=seed, config=controller),
        ),
    }
    found: dict[str, dict[str, Any]] = {}
    assert data.val is not None
    for name, (supernet, strategy) in runs.items():
        folder = settings.out / name
        best = run_search(
            supernet,
            strategy,
            data.train,
            data.val,
            config=config,
            out=folder,
            resume=settings.resume and folder.exists(),
            **settings.running(),
        ).best
        log = [each for record in RunFolder.open(folder).records for each in record["updates"]]
        found[name] = {"vector": list(best.vector), "score": best.score, "log": log}
    found["alternating"]["phases"] = [asdict(phase) for phase in alternating.phases]
    return found


def learning_rate(scale: Scale) -> float:
    """Return the controllers' learning rate; at a scale, larger as the steps get fewer, 0.02 at
    most."""
    return min(0.02, LEARNING_RATE / scale.share)


def macro_network(
    space: MacroSpace, vector: Vector, channels: tuple[int, int, int], classes: int, seed: int
) -> nn.Module:
    """Return the network of a vector, wide enough to have as many parameters as ResNet-20.

    ``channels`` are ResNet-20's. The paper compares networks of comparable parameters (section
    3.1).
    """

    def parameters(width: int) -> int:
        with torch.device("meta"):
            network = MacroNetwork(space, channels=width, num_classes=classes).build(vector, 0)
        return sum(p.numel() for p in network.parameters())

    wanted = sum(p.numel() for p in resnet20.build_model(classes, channels).parameters())
    width = 2 + bisect_left(range(2, 1025), wanted, key=parameters)
    return MacroNetwork(space, channels=width, num_classes=classes).build(vector, seed)
