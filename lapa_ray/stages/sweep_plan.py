"""The plan of a sweep: its config in; its settings, and the config of a training for each of them and each seed, out.

Refuses by name what there cannot be. Knows not how trainings run, nor what comes of them.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from lapa_ray.core.errors import LapaError
from lapa_ray.evaluation.sweep_results import TRIALS
from lapa_ray.stages.sweep_config import SweepConfig
from lapa_ray.stages.train_vqvae import absolute
from lapa_ray.stages.vqvae_config import TrainVqvaeConfig

LARGEST_SEED = 2**31 - 1
NUM_WORKERS = "resources.num_workers"
VARIANT = "variant"
"""What a setting calls the name of its variant."""
Planned = tuple[Mapping[str, Any], TrainVqvaeConfig]
"""A trial's setting, and its config."""


def plan(config: SweepConfig) -> dict[str, Planned]:
    """Name of each trial to its setting and its config, seed by seed, so that what is there at any time is balanced.

    Raises `LapaError` for a setting that there cannot be.
    """
    if config.seed + config.num_seeds - 1 > LARGEST_SEED:
        raise LapaError(f"--num_seeds {config.num_seeds}: seeds beyond {LARGEST_SEED}; give a lower --seed.")
    if empty := [path for path, values in config.space.items() if not values]:
        raise LapaError(f"--space {empty[0]}: names no values; give a list.")
    if VARIANT in config.space:
        raise LapaError(f"--space {VARIANT}: there is no such option of train-vqvae; name variants by --variants.")
    _check_space(config)
    space = {**({VARIANT: list(config.variants)} if config.variants else {}), **config.space}
    settings = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    planned: dict[str, Planned] = {}
    for seed in range(config.seed, config.seed + config.num_seeds):
        for number, setting in enumerate(settings):
            name = f"{number:02d}_{slug(setting)}_seed_{seed}"
            planned[name] = setting, _trial_config(config, name, setting, seed)
    _check_distinct([planned[name] for name in list(planned)[: len(settings)]])
    return planned


def _check_space(config: SweepConfig) -> None:
    """Raise `LapaError` for what no setting can decide."""
    named = [f"--space {path}" for path in config.space]
    named += [f"--variants {name}: {path}" for name, options in config.variants.items() for path in options]
    if fixed := next((where for where in named if where.endswith(NUM_WORKERS)), None):
        raise LapaError(f"{fixed}: each training of a sweep is one process without workers; leave it out.")


def _check_distinct(of_one_seed: Sequence[Planned]) -> None:
    """Raise `LapaError` for two settings that would train the same."""
    seen: dict[str, Mapping[str, Any]] = {}
    for setting, trial in of_one_seed:
        trained = repr(trial.model_dump(exclude={"out", "wandb"}))
        if trained in seen:
            raise LapaError(
                f"{dict(setting)} and {dict(seen[trained])} are the same training; leave one out (seeds are given by "
                "--num_seeds)."
            )
        seen[trained] = setting


def slug(setting: Mapping[str, Any]) -> str:
    """A setting as part of a folder's name."""
    text = "_".join(f"{path.rpartition('.')[2]}_{value}" for path, value in setting.items()) or "default"
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text)[:80].strip("-")


def _trial_config(config: SweepConfig, name: str, setting: Mapping[str, Any], seed: int) -> TrainVqvaeConfig:
    fields: dict[str, Any] = config.train.model_dump()
    apply_setting(config, setting, fields)
    fields["resources"]["num_workers"] = 0  # a trial is one process: a trainer inside each would wait for the others
    wandb = config.wandb.model_copy(update={"name": f"{config.wandb.name or config.out.name}-{name}"})
    out = config.out.resolve() / TRIALS / name
    try:
        made = TrainVqvaeConfig(**fields, out=out, frames=config.frames, seed=seed, wandb=wandb, ray=config.ray)
        return absolute(made)  # a trial runs in a directory of Tune's
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        told = first["msg"].removeprefix("Value error, ")
        option = "--space" if config.space else "--variants"
        raise LapaError(f"{option} {dict(setting)}: {where + ': ' if where else ''}{told}") from error


def apply_setting(config: SweepConfig, setting: Mapping[str, Any], fields: dict[str, Any]) -> None:
    """Give options of train what a setting says: first its variant's, then its own."""
    if (name := setting.get(VARIANT)) is not None:
        for path, value in config.variants[name].items():
            _set(fields, path, value, f"--variants {name}: {path}")
    for path, value in setting.items():
        if path != VARIANT:
            _set(fields, path, value, f"--space {path}")


def _set(fields: dict[str, Any], path: str, value: Any, where: str) -> None:
    *parents, last = path.split(".")
    place: Any = fields
    for name in parents:
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        raise LapaError(
            f"{where}: there is no such option of train-vqvae, or another path or the variant gives all of its group; "
            "name one by its dotted path."
        )
    place[last] = copy.deepcopy(value)
