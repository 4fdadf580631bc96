"""The refit of an architecture that is taken from a finished run."""

from dataclasses import replace

from torch import nn

from refiner.core.errors import ConfigError, RefinerError, RunError, one_line
from refiner.core.records import checked_record
from refiner.core.types import JsonDict
from refiner.distill.refit import RefitConfig
from refiner.runs.job import Job, Output, set_up
from refiner.runs.refitting import refit_kept
from refiner.runs.run_folder import RunFolder
from refiner.space.search_space import SearchSpace

from .consent import Consent, names_code
from .request import RunRequest


def kept_config(run: RunFolder, settings: JsonDict) -> RefitConfig | None:
    """Return how a run refitted its networks; None where it did not.

    Raises:
        RunError: its folder holds no such settings.
    """
    kept = settings.get("refit")
    if kept is None:
        return None
    try:
        return checked_record(RefitConfig(**kept), finite=True)
    except (ConfigError, TypeError, ValueError) as error:
        raise RunError(
            f"{run.path} holds a damaged config.json: {one_line(error, 150)}."
        ) from error


def refitted(
    run: RunFolder,
    config: RefitConfig,
    request: RunRequest | None,
    model: nn.Module,
    space: SearchSpace,
    network: nn.Module,
    consent: Consent,
) -> tuple[nn.Module, str]:
    """Refit a network of a run's search as the run refitted its own.

    Args:
        run: the run.
        config: how it refitted its networks.
        request: that began it; None where no command did.
        model: the original.
        space: the search space.
        network: with the weights that the search left; it stays as it is.
        consent: what the command line lets the run's folder run.

    Returns:
        The refitted network and a note; where the run's data is not at hand, ``network`` itself.
    """
    try:
        job = _job(run, request, model, consent)
        network, undone = refit_kept(job, config, space, network)
    except RefinerError as error:
        return network, f"without the refit that the run's own network got ({error})".rstrip(".")
    without = f", but for {' and '.join(undone)}, which did not help" if undone else ""
    return network, f"refitted as the run's own network was{without}"


def _job(run: RunFolder, request: RunRequest | None, model: nn.Module, consent: Consent) -> Job:
    """Return the model and the data of a run.

    Raises:
        RefinerError: the data is not at hand, or is code that the command line does not trust.
    """
    if request is None:
        raise RunError("the run's folder does not name its data")
    own = [str(source) for option, source in request.sources.items() if option]
    code = [source for source in own if names_code(source)]
    if code and not consent.trust:
        raise RunError(f"{', '.join(code)} is code of your own; --trust runs it")
    wanted = {option or "--model": source for option, source in request.sources.items()}
    with consent.given(run.path, wanted, f"refine apply {run.path}"):
        source = replace(
            request.source, weights=None, pretrained=False, verify=(), prepared_by=(str(run.path),)
        )
        _, _, data, task, _ = source.load()
    return set_up(
        model, data.train, data.val, test_loader=data.test, task=task, example_input=None,
        seed=request.given.get("seed", 0), devices=request.devices(), output=Output(),
    )  # fmt: skip
