"""Latents: recorded states in → what an agent's network makes of them, and that in two dimensions.

The latent is what the network's last layer sees. PCA shows the two directions in which latents differ most; t-SNE (van
der Maaten and Hinton 2008) keeps neighbours together and says nothing of distances. Knows no stage and draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from lapa_ray.core.errors import LapaError
from lapa_ray.core.pictures import OBS_SIZE, grey_levels, shrink
from lapa_ray.core.seeds import seed_for
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.breakout import BreakoutEntities
from lapa_ray.envs.entities import Entities
from lapa_ray.envs.ms_pacman import GHOSTS, MsPacmanEntities
from lapa_ray.evaluation.data_quality_datasets import entity_map_of
from lapa_ray.models.q_network import QNetwork

Floats = NDArray[np.float64]
PIECE_PICTURES, BATCH = 256, 128
MOST_COMPONENTS = 50
"""t-SNE sees the first principal components alone: what is left is noise to it, and time."""
NUM_NEIGHBOURS = 12


@dataclass(frozen=True)
class States:
    """N recorded states: where they are from, and what RAM tells of them.

    episode_ids, steps int64 [N]: state `step` is what step − 1 led to, 0 the reset; lives int8 [N]. told: name to
    float64 [N], not-a-number where there is nothing to tell; empty for a game whose RAM nobody has read.
    """

    episode_ids: NDArray[np.int64]
    steps: NDArray[np.int64]
    lives: NDArray[np.int8]
    told: dict[str, Floats]


@dataclass(frozen=True)
class Latents:
    """What a network makes of N states: latents float32 [N, F], value of the best action [N], that action int64 [N]."""

    features: NDArray[np.float32]
    values: Floats
    actions: NDArray[np.int64]


@dataclass(frozen=True)
class Embedding:
    """Latents in two dimensions, pca and tsne float64 [N, 2], and how faithful that is.

    explained: share of the latents' variance in the two principal components. The trusts, in [0, 1], tell how far
    neighbours in the picture are neighbours in truth (Venna and Kaski 2001); chance gives about a half.
    """

    pca: Floats
    tsne: Floats
    explained: float
    pca_trust: float
    tsne_trust: float


def choose_states(dataset: FrameDataset, count: int) -> States:
    """`count` states in which the game is on, spread evenly over all; all of them if there are no more."""
    episodes, steps, lives, entities = [], [], [], []
    entity_map = entity_map_of(dataset.info.game)
    for episode_id in dataset.episode_ids:
        table = dataset.steps(episode_id)
        read = None if entity_map is None or table.ram is None else entity_map.read(table.ram)
        here = np.flatnonzero(_is_on(read, len(table.lives)))
        episodes.append(np.full(len(here), episode_id, dtype=np.int64))
        steps.append(here)
        lives.append(table.lives[here])
        entities.append({name: values[here] for name, values in told_of(read).items()})
    names = set.intersection(*(set(told) for told in entities)) if entities else set()
    columns = {name: np.concatenate([told[name] for told in entities]) for name in sorted(names)}
    total = sum(map(len, steps))
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    return States(
        np.concatenate(episodes)[chosen],
        np.concatenate(steps)[chosen],
        np.concatenate(lives)[chosen],
        {name: values[chosen] for name, values in columns.items()},
    )


def told_of(entities: Entities | None) -> dict[str, Floats]:
    """What of a game's entities [T] states are coloured by: name, with its unit, to float64 [T]."""
    if isinstance(entities, MsPacmanEntities):
        return {
            "dots eaten": entities.dots_eaten.astype(np.float64),
            "distance to the nearest ghost, px": _nearest_ghost(entities),
        }
    if isinstance(entities, BreakoutEntities):
        ball = entities.sprites["ball"]
        return {
            "bricks left": entities.bricks.sum(axis=(1, 2)).astype(np.float64),
            "height of the ball, pixel row": np.where(ball.present, ball.top, np.nan),
        }
    return {}


def observations(dataset: FrameDataset, episode_id: int) -> NDArray[np.uint8]:
    """What the agent saw in an episode: uint8 [T+1, 84, 84], as the environment makes them of a step's last two frames.

    Raises `LapaError` for a dataset whose screens are RGB: agents see grey levels of the console's palette.
    """
    info, count = dataset.info, dataset.num_steps(episode_id) + 1
    if info.channels != 1:
        raise LapaError(f"{dataset.name}: holds RGB screens, but agents see the console's palette; record some anew.")
    grey, decoder = grey_levels(info.palette), dataset.decoder("max2")
    seen = np.empty((count, OBS_SIZE, OBS_SIZE), dtype=np.uint8)
    for first in range(0, count, PIECE_PICTURES):
        piece = np.empty((min(PIECE_PICTURES, count - first), *info.screen_shape), dtype=np.uint8)
        decoder.decode(episode_id, first, piece)
        for number, picture in enumerate(piece, start=first):
            seen[number] = shrink(grey[picture])
    return seen


def stacks(seen: NDArray[np.uint8], steps: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """The stacks uint8 [N, size, 84, 84] that end in `steps` of an episode; before its start its first one stands."""
    places = np.maximum(steps[:, None] + np.arange(1 - size, 1), 0)
    return seen[places]


def latents_of(network: QNetwork, batches: list[NDArray[np.uint8]]) -> Latents:
    """What `network` makes of stacks uint8 [B, k, 84, 84], batch after batch."""
    with torch.inference_mode():
        obs = [torch.from_numpy(batch) for batch in batches]
        features = torch.cat([network.penultimate(part).float() for part in obs])
        values = torch.cat([network(part) for part in obs])
    best = values.max(dim=1)
    return Latents(features.numpy(), best.values.double().numpy(), best.indices.numpy())


def embed(features: NDArray[np.float32], perplexity: float, seed: int) -> Embedding:
    """Two dimensions of latents [N, F], N more than `perplexity` and than a dozen."""
    spread = features - features.mean(axis=0)
    components = min(MOST_COMPONENTS, *features.shape)
    pca = PCA(components, random_state=seed_for(seed, "PCA")).fit(spread)
    reduced = pca.transform(spread)
    seeded = seed_for(seed, "t-SNE")
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seeded, n_jobs=1).fit_transform(reduced)
    flat = np.pad(reduced, ((0, 0), (0, max(0, 2 - components))))[:, :2]
    neighbours = min(NUM_NEIGHBOURS, len(features) // 2 - 1)
    return Embedding(
        pca=flat.astype(np.float64),
        tsne=tsne.astype(np.float64),
        explained=float(pca.explained_variance_ratio_[:2].sum()),
        pca_trust=float(trustworthiness(spread, flat, n_neighbors=neighbours)),
        tsne_trust=float(trustworthiness(spread, tsne, n_neighbors=neighbours)),
    )


def _is_on(entities: Entities | None, count: int) -> NDArray[np.bool_]:
    """Which of `count` states are in play; all where nobody knows."""
    return entities.playing if isinstance(entities, MsPacmanEntities) else np.ones(count, dtype=np.bool_)


def _nearest_ghost(entities: MsPacmanEntities) -> Floats:
    """Distance of the player to the nearest ghost, px; not-a-number without one."""
    distances = []
    for name in GHOSTS:
        across = entities.x[name].astype(np.float64) - entities.x["player"]
        down = entities.y[name].astype(np.float64) - entities.y["player"]
        distances.append(np.where(entities.sprites[name].present, np.hypot(across, down), np.inf))
    nearest = np.min(distances, axis=0)
    return np.where(np.isfinite(nearest), nearest, np.nan)
