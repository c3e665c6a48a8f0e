"""`visualize-latents`: agents and frames → latents. What networks make of recorded states, by PCA and t-SNE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.config import NOT_IDENTITY, PlainStageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.files import replacing
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import STOPPING, StopRequest, stop_on_signal
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.atari_env import AtariEnvConfig
from lapa_ray.evaluation.latent_figure import Colouring, EmbeddingRow, write_latents
from lapa_ray.evaluation.latents import (
    Embedding,
    Latents,
    States,
    choose_states,
    embed,
    latents_of,
    observations,
    stacks,
)
from lapa_ray.models.q_network import OBS_SHAPE, QNetwork, load_agent

PICTURE, TABLE = "latents.png", "latents.parquet"
LEAST_STATES = 32


class VisualizeLatentsConfig(PlainStageConfig):
    """Shows what an agent's network makes of recorded states."""

    agent: Path
    """Agent artefact."""
    beside: Path | None = None
    """A second agent artefact, such as of the other replay, shown beside it on the same states."""
    frames: Path
    """Frames artefact that the states are from, of the game that the agent plays."""
    num_states: int = Field(2000, ge=LEAST_STATES)
    """States, agent steps spread evenly over all episodes; those in which the game stands still are left out."""
    perplexity: float = Field(30.0, gt=1)
    """About how many neighbours of a state t-SNE keeps; the number of states must be at least thrice that."""
    batch_size: Annotated[PositiveInt, NOT_IDENTITY] = 128
    """Number of states that a network sees at a time."""


CONFIG = VisualizeLatentsConfig


@dataclass(frozen=True)
class Subject:
    """An agent whose latents are shown: its role among the parents, what it is called, and its network."""

    role: str
    title: str
    network: QNetwork
    frame_stack: int


def run(config: VisualizeLatentsConfig) -> Artefact:
    """Embed and write the latents artefact: latents.png and latents.parquet."""
    dataset = FrameDataset.open(config.frames)
    paths = {"agent": config.agent} | ({} if config.beside is None else {"beside": config.beside})
    agents = {role: open_artefact(path, "agent") for role, path in paths.items()}
    subjects = [_subject(role, agent, dataset) for role, agent in agents.items()]
    _check_two(config, agents)
    states = choose_states(dataset, config.num_states)
    _check(config, states)
    draft = Draft.begin(config, "latents", {**agents, "frames": dataset.artefact})
    torch.set_num_threads(1)
    with stop_on_signal(said=STOPPING) as stop:
        found = [_latents(subject, dataset, states, config.batch_size, stop) for subject in subjects]
        embeddings = [embed(latents.features, config.perplexity, config.seed) for latents in found]
    _write_table(draft.path / TABLE, subjects, states, found, embeddings)
    rows = [
        row
        for subject, latents, embedding in zip(subjects, found, embeddings, strict=True)
        for row in _rows(subject, latents, embedding, states, dataset.info.action_meanings)
    ]
    write_latents(draft.path / PICTURE, rows)
    return draft.finish({"game": dataset.info.game, "num_states": len(states.steps), **_figures(subjects, embeddings)})


def _subject(role: str, agent: Artefact, dataset: FrameDataset) -> Subject:
    """Raises `LapaError` unless the agent plays the game of the dataset, at its pace, and sees 84×84 grey."""
    said, info = agent.manifest, dataset.info
    played = (said.figures.get("game"), said.figures.get("num_actions"), said.config["env"]["frame_skip"])
    recorded = (info.game, len(info.action_meanings), info.frame_skip)
    if played != recorded:
        here, there = ("{} with {} actions at frame_skip {}".format(*facts) for facts in (played, recorded))
        raise LapaError(
            f"--{role} {agent.path}: plays {here}, but {dataset.name} holds {there}; give frames of what it plays."
        )
    saw = AtariEnvConfig(**said.config["env"])
    if saw.obs_shape != OBS_SHAPE:
        raise LapaError(
            f"--{role} {agent.path}: sees {saw.obs_size}×{saw.obs_size} pixels of {saw.obs_channels} channels, but "
            "recorded frames are made into 84×84 grey ones alone; give an agent that sees those."
        )
    title = f"{'PER' if said.config.get('use_per') else 'uniform'}, seed {said.seed}"
    return Subject(role, title, load_agent(agent), int(said.config["network"]["frame_stack"]))


def _check_two(config: VisualizeLatentsConfig, agents: dict[str, Artefact]) -> None:
    if len({agent.identity for agent in agents.values()}) < len(agents):
        raise LapaError(f"--beside {config.beside}: is the same agent as --agent; give another, or none.")


def _check(config: VisualizeLatentsConfig, states: States) -> None:
    count = len(states.steps)
    if count < LEAST_STATES:
        raise LapaError(f"--frames {config.frames}: {count} states in play are too few; record longer episodes.")
    if count < 3 * config.perplexity:
        raise LapaError(
            f"--perplexity {config.perplexity:g}: more than a third of the {count} states; lower it, or give more "
            "--num_states or --frames."
        )


def _latents(subject: Subject, dataset: FrameDataset, states: States, batch: int, stop: StopRequest) -> Latents:
    """What the network makes of all states, in their order: by episode."""
    parts: list[Latents] = []
    with Progress(f"visualize-latents: {subject.title}", len(states.steps), "states") as progress:
        for episode_id in np.unique(states.episode_ids):
            steps = states.steps[states.episode_ids == episode_id]
            seen = observations(dataset, int(episode_id))
            for first in range(0, len(steps), batch):
                some = stacks(seen, steps[first : first + batch], subject.frame_stack)
                parts.append(latents_of(subject.network, [some]))
                progress.advance(len(some))
                if stop:
                    raise StoppedError("stopped; nothing was embedded. Start it again with --resume.")
    return Latents(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "values", "actions"))
    )


def _rows(
    subject: Subject, latents: Latents, embedding: Embedding, states: States, action_names: tuple[str, ...]
) -> list[EmbeddingRow]:
    lives = [str(number) for number in range(int(states.lives.max()) + 1)]
    colourings = [
        Colouring("value of the state", latents.values),
        Colouring("best action", latents.actions, action_names),
        Colouring("lives", states.lives.astype(np.int64), tuple(lives)),
        *(Colouring(name, values) for name, values in states.told.items()),
    ]
    return [
        EmbeddingRow(f"{subject.title}: PCA", embedding.pca, colourings),
        EmbeddingRow(f"{subject.title}: t-SNE", embedding.tsne, colourings),
    ]


def _write_table(
    path: Path, subjects: list[Subject], states: States, found: list[Latents], embeddings: list[Embedding]
) -> None:
    """One row an agent and state."""
    tables = []
    for subject, latents, embedding in zip(subjects, found, embeddings, strict=True):
        columns: dict[str, NDArray | list[str]] = {
            "agent": [subject.role] * len(states.steps),
            "episode_id": states.episode_ids,
            "step": states.steps,
            "value": latents.values,
            "best_action": latents.actions,
            "lives": states.lives,
            **{name.partition(",")[0].replace(" ", "_"): values for name, values in states.told.items()},
            **{f"pca_{n + 1}": embedding.pca[:, n] for n in range(2)},
            **{f"tsne_{n + 1}": embedding.tsne[:, n] for n in range(2)},
        }
        tables.append(pa.table(columns))
    with replacing(path) as temporary:
        pq.write_table(pa.concat_tables(tables), temporary)


def _figures(subjects: list[Subject], embeddings: list[Embedding]) -> dict[str, float]:
    return {
        f"{subject.role}_{name}": value
        for subject, embedding in zip(subjects, embeddings, strict=True)
        for name, value in (
            ("pca_explained_share", embedding.explained),
            ("pca_trustworthiness", embedding.pca_trust),
            ("tsne_trustworthiness", embedding.tsne_trust),
        )
    }
