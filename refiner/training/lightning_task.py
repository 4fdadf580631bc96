"""The task of a LightningModule: the loss of its own ``training_step``, without a Trainer.

What the module logs is caught, and metrics of torchmetrics are reset after each step. Optimizers
and schedules are those of refiner; hooks of a training, such as ``on_train_epoch_end``, are not
called.
"""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from refiner.core.batches import batch_size, inputs_and_target, inputs_of, output_of
from refiner.core.errors import ConfigError, DataError, one_line
from refiner.core.lightning_modules import check_module, detached, is_lightning, overrides
from refiner.core.randomness import seeded
from refiner.core.surgery import copied
from refiner.core.types import Batch
from refiner.data.lightning_data import check_batches_stay
from refiner.training.compared import main_output
from refiner.training.mean_loss import MeanLoss
from refiner.training.task import Classification, Task

_NUMBER = 1
"""``batch_idx`` of each step: many modules draw pictures for batch 0, which needs a logger."""
_LOGGED = ("val_loss", "valid_loss", "validation_loss", "loss")
"""Names under which a loss is looked for first."""


class LightningClassification(Classification):
    """Accuracy of what ``forward`` returns, and the loss of ``training_step``.

    Args:
        network: name of the submodule whose outputs are compared with the teacher's; empty for the
            module itself. Both steps and ``forward`` call it.
    """

    def __init__(self, network: str = "") -> None:
        super().__init__()
        self.network = network

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss of the module's ``training_step``."""
        return training_loss(model, batch)

    def compared_network(self, model: nn.Module) -> nn.Module:
        """Return the module whose outputs are compared with the teacher's."""
        return model.get_submodule(self.network)


class LightningLoss(MeanLoss):
    """Minus the loss of ``validation_step``, and the loss of ``training_step``.

    Args:
        network: as for :class:`LightningClassification`.
    """

    def __init__(self, network: str = "") -> None:
        self.network = network

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss of the module's ``training_step``."""
        return training_loss(model, batch)

    def run(self, model: nn.Module, batch: Batch) -> None:
        """Call the model on a batch, which needs no labels."""
        output_of(model, (_inputs(batch), None))

    def measure(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return (loss times samples, number of samples)."""
        return self.sums_of(validation_loss(model, batch), batch_size(_inputs(batch)))

    def compared_network(self, model: nn.Module) -> nn.Module:
        """Return the module whose outputs are compared with the teacher's."""
        return model.get_submodule(self.network)


def lightning_task(model: nn.Module, batch: Batch) -> Task:
    """Return the task of a LightningModule: what is trained for is its own ``training_step``.

    The score is the accuracy where the outputs are logits of classes and the targets their numbers,
    else minus the loss of ``validation_step``.

    Args:
        model: it is copied, never changed.
        batch: of its data; the copy takes one step of each kind on it.

    Raises:
        ConfigError: a step needs a Trainer, gives no loss, or calls no network that is compared.
        DataError: the model fails on the batch, or a Trainer would change it first.
        ModelError: it has no ``forward`` or no ``training_step``.
    """
    check_module(model)
    check_batches_stay(model)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "the steps of a LightningModule run in one process here. Start a single one, or give a "
            "task of your own."
        )
    work = copied(detached(model)).cpu()
    with seeded(0):
        tried, _ = _called(work.train(), lambda: training_loss(work, batch))
        with torch.no_grad():
            called, outputs = _called(work.eval(), lambda: LightningLoss().run(work, batch))
            called &= tried
            compared = [outputs[name] for name in _networks(work, called)[:1]]
            is_classifier = bool(compared) and _are_logits(compared[0], batch)
            if not is_classifier:
                called &= _called(work, lambda: LightningLoss().measure(work, batch))[0]
    networks = _networks(work, called)
    if not networks:
        raise ConfigError(
            f"the steps of {type(model).__name__} call neither the module itself nor one part that "
            "holds all its convs, so no output can be compared. Call self(x) in its steps."
        )
    return (LightningClassification if is_classifier else LightningLoss)(networks[0])


def training_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the loss of a module's ``training_step``, a scalar with a gradient."""
    return _loss(model, "training_step", batch)


def validation_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the loss of ``validation_step``, or of ``training_step`` where there is no other.

    Where the step returns none, it is the logged number whose name speaks of a loss.
    """
    lacks_own = is_lightning(model) and not overrides(model, "validation_step")
    return _loss(model, "training_step" if lacks_own else "validation_step", batch)


def _loss(model: Any, step: str, batch: Batch) -> torch.Tensor:
    if not is_lightning(model):
        raise ConfigError(
            f"a {type(model).__name__} has no {step}, as this score needs. Name a --task (task= in "
            "Python) that scores outputs."
        )
    logged: dict[str, Any] = {}
    with _logging_to(model, logged):
        try:
            found = getattr(model, step)(*_arguments(getattr(model, step), batch))
        except RuntimeError as error:
            if "not attached to a" in str(error):
                raise ConfigError(
                    f"{step} of {type(model).__name__} uses self.trainer, and no Trainer runs "
                    "here. Leave that out where self._trainer is None."
                ) from error
            raise
    if isinstance(found, Mapping):
        found = found.get("loss")
    if found is None and step != "training_step":
        found = _logged_loss(logged)
    if not isinstance(found, torch.Tensor) or found.numel() != 1:
        raise ConfigError(
            f"{step} of {type(model).__name__} gives no loss. Return a scalar tensor"
            + ("." if step == "training_step" else ", or log it as val_loss.")
        )
    return found.reshape(())


def _arguments(step: Any, batch: Batch) -> tuple[Any, ...]:
    """Return the arguments of a step, which may leave out ``batch_idx``."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    kinds = [each.kind for each in inspect.signature(step).parameters.values()]
    taken = sum(kind in positional for kind in kinds)
    return (batch, _NUMBER)[: 2 if inspect.Parameter.VAR_POSITIONAL in kinds else taken]


@contextmanager
def _logging_to(model: nn.Module, logged: dict[str, Any]) -> Iterator[None]:
    """Catch what a module logs inside, and leave its metrics as new ones."""

    def log(name: str, value: Any, *_args: Any, **_kwargs: Any) -> None:
        logged[name] = value

    inner = [module for module in model.modules() if is_lightning(module)]
    for module in inner:
        vars(module)["log"] = log
    try:
        yield
    finally:
        for module in inner:
            vars(module).pop("log", None)
        for module in model.modules():
            if any(base.__module__ == "torchmetrics.metric" for base in type(module).__mro__):
                module.reset()  # type: ignore[operator]


def _logged_loss(logged: Mapping[str, Any]) -> torch.Tensor | None:
    """Return the loss among logged values: of a usual name, else the first that speaks of one."""
    names = [*_LOGGED, *(name for name in logged if "loss" in name.lower())]
    found = next((logged[name] for name in names if name in logged), None)
    return torch.as_tensor(found) if isinstance(found, float | int | torch.Tensor) else None


def _called(work: nn.Module, run: Any) -> tuple[set[str], dict[str, Any]]:
    """Return the names of the modules that are called, and the main output of their last call."""
    outputs: dict[str, Any] = {}

    def after(name: str) -> Any:
        return lambda _module, _args, output: outputs.__setitem__(name, main_output(output))

    hooks = [m.register_forward_hook(after(name)) for name, m in work.named_modules()]
    try:
        run()
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{type(work).__name__} fails on a batch of the data: {one_line(error, 200)}. Name the "
            "data that it was trained on."
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return set(outputs), outputs


def _inputs(batch: Batch) -> Any:
    """Return the inputs of a batch; of one in another form, its first part."""
    if isinstance(batch, tuple | list) and len(batch) != 2:
        return batch[0]
    return inputs_of(batch)


def _networks(work: nn.Module, called: set[str]) -> list[str]:
    """Return the modules among ``called`` that hold all convs, from the outside in."""
    convs = [m for m in work.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    return [
        name
        for name, module in work.named_modules()
        if name in called and {*convs} <= {*module.modules()}
    ]


def _are_logits(output: Any, batch: Batch) -> bool:
    """Return whether outputs are logits N x C, and targets are N numbers of classes."""
    try:
        target = inputs_and_target(batch)[1]
    except DataError:
        return False
    if not isinstance(output, torch.Tensor) or not isinstance(target, torch.Tensor):
        return False
    if output.dim() != 2 or target.shape != output.shape[:1] or target.is_floating_point():
        return False
    sums = output.sum(dim=1)
    shares = bool((output >= 0).all()) and bool((sums - 1).abs().max() < 1e-3)
    return int(target.max()) < output.shape[1] > 1 and int(target.min()) >= 0 and not shares
