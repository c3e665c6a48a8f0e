"""Datasets measured: a frame dataset and the tallies of its episodes → its figures, its exhibit and its name.

One that mixes policies is followed by the part of each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lapa_ray.core.artefact import Artefact, open_artefact
from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import Composite
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.entities import EntityMap, entities_of
from lapa_ray.envs.mazes import NUM_CELLS, NUM_MAZES
from lapa_ray.envs.ms_pacman import MsPacmanMap
from lapa_ray.evaluation.data_quality import DataExhibit, DataQuality, DatasetQuality, Measured
from lapa_ray.evaluation.data_quality_measures import MEASURES, Measure, Tallies, measure
from lapa_ray.evaluation.data_quality_tally import EpisodeTally, PlayTally, tally_episode
from lapa_ray.evaluation.estimates import PooledRatio

CURVE_POINTS = 120
TRAINING = "training"
"""The policy of the gameplay that train-dqn saw."""


@dataclass(frozen=True)
class Tallied:
    """A dataset and what its episodes add, as `role` among the parents."""

    role: str
    dataset: FrameDataset
    tallies: tuple[EpisodeTally, ...]

    @classmethod
    def of(
        cls,
        role: str,
        dataset: FrameDataset,
        composite: Composite,
        tick: Callable[[int], None],
        episode_ids: Sequence[int] | None = None,
    ) -> Tallied:
        """Read `dataset`, or `episode_ids` of it; `tick` is told the agent steps of each episode that was read."""
        entity_map, tallies = entity_map_of(dataset.info.game), []
        for episode_id in dataset.episode_ids if episode_ids is None else episode_ids:
            tallies.append(tally_episode(dataset, episode_id, composite, entity_map))
            tick(tallies[-1].num_steps)
        return cls(role, dataset, tuple(tallies))


def entity_map_of(game: str) -> EntityMap | None:
    """What the RAM of `game` means; None where nobody has read it."""
    try:
        return entities_of(game)
    except LapaError:
        return None


def measured(datasets: Sequence[Tallied], composite: str, seed: int) -> Measured:
    """Figures and exhibits of all `datasets`, side by side."""
    found: list[DatasetQuality] = []
    exhibits: list[DataExhibit] = []
    for tallied in datasets:
        for tallies in _parts(tallied.tallies):
            found.append(_quality(tallied, tallies, seed))
            exhibits.append(_exhibit(tallies, seed))
    figures = tuple(entry.figure for entry in MEASURES)
    quality = DataQuality(composite=composite, figures=figures, datasets=tuple(_named(found)))
    return Measured(quality, tuple(exhibits))


def _parts(tallies: Tallies) -> list[Tallies]:
    """All episodes, and where several policies played them, those of each."""
    policies = sorted({tally.policy for tally in tallies})
    parts = [[tally for tally in tallies if tally.policy == policy] for policy in policies]
    return [tallies, *parts] if len(parts) > 1 else [tallies]


def _quality(tallied: Tallied, tallies: Tallies, seed: int) -> DatasetQuality:
    dataset = tallied.dataset
    estimates, notes = measure(tallies, seed)
    policy = " and ".join(sorted({policy_words(dataset.artefact, tally.policy) for tally in tallies}))
    missing = {
        entry.figure.name: notes.pop(entry.figure.name, "") or _why(entry, tallies, dataset)
        for entry in MEASURES
        if entry.figure.name not in estimates
    }
    return DatasetQuality(
        role=tallied.role,
        name=policy,
        policy=policy,
        path=str(dataset.artefact),
        identity=dataset.artefact.identity,
        part=len(tallies) < len(tallied.tallies),
        game=dataset.info.game,
        action_meanings=dataset.info.action_meanings,
        sticky_probability=dataset.info.sticky_probability,
        num_episodes=len(tallies),
        num_steps=sum(tally.num_steps for tally in tallies),
        estimates=estimates,
        missing=missing,
        notes=notes,
    )


def _why(entry: Measure, tallies: Tallies, dataset: FrameDataset) -> str:
    """Why a figure was not measured."""
    if not entry.needs or all(getattr(tally, entry.needs) is not None for tally in tallies):
        return "there was nothing to measure"
    if entry.needs != "play":
        return {"total_reward": "no rewards", "lives_lost": "no lives"}.get(entry.needs, "no actions")
    without_ram = sum(not tally.has_ram for tally in tallies)
    if without_ram == 0 and entity_map_of(dataset.info.game) is None:
        return f"what the RAM of {dataset.info.game} means is not known"
    if without_ram == 0:
        return f"of {MsPacmanMap.game} alone, not of {dataset.info.game}"
    return "no RAM" if without_ram == len(tallies) else f"no RAM in {without_ram} of {len(tallies)} episodes"


def policy_words(artefact: Artefact, policy: str) -> str:
    """Who played, in words: an agent is told by its replay, as far as the artefact that played is still there."""
    if policy == TRAINING:
        return f"training, {_replay(artefact)}"
    if not policy.startswith("agent "):
        return policy
    agent = _agent_of(artefact)
    return "agent" if agent is None else f"agent {_replay(agent)}"


def _replay(agent: Artefact) -> str:
    return "PER" if agent.manifest.config.get("use_per") else "uniform"


def _agent_of(frames: Artefact) -> Artefact | None:
    """The agent that played `frames`, where it lay or beside them."""
    parent = frames.manifest.parents.get("agent")
    if parent is None:
        return None
    for path in (Path(parent.path), frames.path.parent / Path(parent.path).name):
        try:
            agent = open_artefact(path, "agent")
        except (LapaError, OSError):
            continue
        if agent.identity == parent.identity:
            return agent
    return None


def _named(datasets: Sequence[DatasetQuality]) -> list[DatasetQuality]:
    """The same with names that differ: the policy, with the directory where another has the same."""
    names = [dataset.policy for dataset in datasets]
    for longer in (lambda d: f"{d.policy}, {Path(d.path).name}", lambda d: f"{d.policy}, {d.path}"):
        names = [
            longer(dataset) if names.count(name) > 1 else name for dataset, name in zip(datasets, names, strict=True)
        ]
    return [dataset.model_copy(update={"name": name}) for dataset, name in zip(datasets, names, strict=True)]


def _exhibit(tallies: Tallies, seed: int) -> DataExhibit:
    plays = [tally.play for tally in tallies if tally.play is not None]
    plays = plays if len(plays) == len(tallies) else []  # as the figures: of all episodes or of none
    tables = [tally.actions for tally in tallies if tally.actions is not None]
    steps, dots = _dots_curve(plays, seed)
    no_cells = np.zeros((len(plays) and NUM_MAZES, NUM_CELLS), dtype=np.int64)
    return DataExhibit(
        returns=np.array([tally.total_reward for tally in tallies if tally.total_reward is not None], dtype=np.float64),
        levels=np.array([play.level for play in plays], dtype=np.int64),
        dots_steps=steps,
        dots=dots,
        player_cells=sum((play.player_cells for play in plays), no_cells),
        actions=sum(tables, np.zeros((len(tables) and len(tables[0]),) * 2, dtype=np.int64)),
    )


def _dots_curve(plays: Sequence[PlayTally], seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps [G] and dots eaten [G, 3], mean and interval; both empty without plays."""
    if not plays:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 3))
    longest = max(play.num_steps for play in plays)
    steps = np.unique(np.linspace(0, longest, CURVE_POINTS).round().astype(np.int64))
    rows = []
    for step in steps:
        ratio = PooledRatio()
        for number, play in enumerate(plays):
            ratio.add(number, float(play.dots[min(step, play.num_steps)]), 1)
        estimate = ratio.estimate(seed=seed)
        rows.append([np.nan if v is None else v for v in (estimate.value, estimate.low, estimate.high)])
    return steps, np.array(rows)
