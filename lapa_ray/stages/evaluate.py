"""`evaluate`: agent, frames, vqvae, codes, world_model → evaluation. Every figure beside its trivial baselines.

Measures on episodes that no model was trained on: the test part where a model's split has one, else the part that
chose the VQ-VAE's best checkpoint, the 10 % which lie inside the 20 % that the world model was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor

from lapa_ray.core.artefact import Artefact, Draft, check_same_parent, open_artefact
from lapa_ray.core.config import NOT_IDENTITY, Device, StageConfig
from lapa_ray.core.errors import LapaError, StoppedError
from lapa_ray.core.files import write_json
from lapa_ray.core.metric_log import MetricLog
from lapa_ray.core.pictures import Composite, grey_levels
from lapa_ray.core.progress import Progress
from lapa_ray.core.stop import STOPPING, StopRequest, stop_on_signal
from lapa_ray.dataset.codes import CodeDataset
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.splits import Parts, named_parts
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.evaluation.figures import Evaluation, FigureGroup
from lapa_ray.evaluation.latent_measurement import LatentMeasurement, LatentOptions
from lapa_ray.evaluation.measurement import Measurement, Models, Sampling
from lapa_ray.evaluation.part_figures import PartMeter
from lapa_ray.evaluation.remarks import choice_remark
from lapa_ray.evaluation.returns import play_random_episode, returns_group
from lapa_ray.models.device import resolve_device
from lapa_ray.models.vqvae import Vqvae, load_vqvae
from lapa_ray.models.world_model import load_world_model
from lapa_ray.stages.vqvae_config import PairConfig

FIGURES, PICTURES, CODES = "figures.json", "pictures.npz", "codes.npz"


class EvaluateConfig(StageConfig):
    """Measures every model on episodes that none of them was trained on."""

    frames: Path
    """Frames artefact to measure on."""
    vqvae: Path
    """Vqvae artefact that made the codes."""
    codes: Path
    """Codes artefact of these frames."""
    world_model: Path
    """World_model artefact that was trained on these codes."""
    agent: Path | None = None
    """Agent artefact that recorded the frames; without one no return is measured."""
    horizon: int = Field(15, ge=1, le=1000)
    """Length of an open-loop rollout, agent steps."""
    num_rollouts: PositiveInt = 500
    """Open-loop rollouts, evenly spaced over the held-out steps."""
    num_pictured_rollouts: PositiveInt = 64
    """Rollouts of these that are decoded to pictures and measured in dB; and as many films for ΔPSNR."""
    num_swaps: PositiveInt = 500
    """Code swaps: codes of one pair decoded beside the frame t of another, where the decoder sees frame t."""
    num_ssim_pairs: PositiveInt = 500
    """Pairs of each part on which SSIM is measured, evenly spaced; it costs about 20 ms a picture on a CPU core."""
    num_part_pairs: PositiveInt = 500
    """Pairs of the VQ-VAE's train part, and of its validation part where there is a test part, on which the pixel
    figures are measured too, evenly spaced."""
    num_random_episodes: PositiveInt = 30
    """Episodes of random play that the agent's return is compared with."""
    batch_size: Annotated[PositiveInt, NOT_IDENTITY] = 64
    """Rows (pictures or rollouts) that go through a network at once."""
    device: Annotated[Device, NOT_IDENTITY] = "auto"
    """auto is CUDA, else MPS, else CPU."""


CONFIG = EvaluateConfig


@dataclass(frozen=True)
class Chain:
    """The artefacts that are measured, known to belong together."""

    frames: FrameDataset
    codes: CodeDataset
    vqvae: Artefact
    world_model: Artefact
    agent: Artefact | None

    @classmethod
    def open(cls, config: EvaluateConfig) -> Chain:
        """Open all. Raises `LapaError` if one is not whole or was not made from the others."""
        frames, codes = FrameDataset.open(config.frames), CodeDataset.open(config.codes)
        vqvae, world_model = open_artefact(config.vqvae, "vqvae"), open_artefact(config.world_model, "world_model")
        agent = None if config.agent is None else open_artefact(config.agent, "agent")
        check_same_parent(codes.artefact, "frames", frames.artefact)
        check_same_parent(codes.artefact, "vqvae", vqvae)
        check_same_parent(world_model, "codes", codes.artefact)
        if agent is not None:
            check_same_parent(frames.artefact, "agent", agent)
        return cls(frames, codes, vqvae, world_model, agent)

    @property
    def parents(self) -> dict[str, Artefact]:
        """By role."""
        agent = {} if self.agent is None else {"agent": self.agent}
        made = {"vqvae": self.vqvae, "codes": self.codes.artefact, "world_model": self.world_model}
        return {**agent, "frames": self.frames.artefact, **made}

    def split(self) -> tuple[list[int], list[int]]:
        """Training episodes of the world model, and the held-out ones that no model was trained on."""
        vqvae, world_model = self.vqvae_parts, self._world_model_parts
        held_out = vqvae.test or world_model.test or min(vqvae.validation, world_model.validation, key=len)
        return world_model.training, held_out

    @property
    def vqvae_parts(self) -> Parts:
        """The parts of the VQ-VAE's split."""
        split = PairConfig(**self.vqvae.manifest.config["pairs"]).split
        return named_parts(self.frames.episode_ids, split, self.frames.name)

    @property
    def _world_model_parts(self) -> Parts:
        split = self.world_model.manifest.config.get("split", "80/20")  # none before there was a choice
        return named_parts(self.frames.episode_ids, split, self.frames.name)

    @property
    def seen_parts(self) -> dict[str, list[int]]:
        """The other parts of the VQ-VAE's split, by name."""
        parts = self.vqvae_parts
        return {"train": parts.training} | ({"validation": parts.validation} if parts.test else {})

    def chosen_on_held_out(self) -> list[str]:
        """The models whose best checkpoint was chosen on episodes that are measured on."""
        held_out = set(self.split()[1])
        parts = {"VQ-VAE": self.vqvae_parts, "world model": self._world_model_parts}
        return [name for name, part in parts.items() if held_out & set(part.validation)]

    @property
    def composite(self) -> Composite:
        """The pictures that the VQ-VAE was trained with."""
        return PairConfig(**self.vqvae.manifest.config["pairs"]).composite

    def palette(self) -> NDArray[np.uint8]:
        """What the VQ-VAE sees of palette indices: grey of three equal channels where it sees grey."""
        palette = self.frames.info.palette
        is_grey = self.vqvae.manifest.config["model"]["colour"] == "grey"
        if is_grey and not len(palette):
            raise LapaError(f"{self.frames.name}: RGB frames cannot be measured in grey; use frames with a palette.")
        return np.repeat(grey_levels(palette)[:, None], 3, axis=1) if is_grey else palette

    @property
    def codebook_size(self) -> int:
        """Codes are below this."""
        return int(self.vqvae.manifest.config["model"]["quantizer"]["codebook_size"])

    def sampling(self, config: EvaluateConfig) -> Sampling:
        """How the held-out data are measured."""
        return Sampling(
            composite=self.composite,
            codebook_size=self.codebook_size,
            horizon=config.horizon,
            num_rollouts=config.num_rollouts,
            num_pictured_rollouts=config.num_pictured_rollouts,
            num_ssim_pairs=config.num_ssim_pairs,
            num_part_pairs=config.num_part_pairs,
            batch_size=config.batch_size,
            palette=self.palette(),
            held_out_part="validation" if "VQ-VAE" in self.chosen_on_held_out() else "test",
        )

    def latent_options(self, config: EvaluateConfig, vqvae: Vqvae) -> LatentOptions:
        """How the codes of `vqvae` are measured."""
        return LatentOptions(
            composite=self.composite,
            palette=self.palette(),
            codebook_size=self.codebook_size,
            grid=vqvae.config.grid_size,
            sees_frame_t=vqvae.config.conditioning != "none",
            code_vectors=vqvae.code_vectors().cpu().numpy(),
            num_films=config.num_pictured_rollouts,
            num_swaps=config.num_swaps,
            batch_size=config.batch_size,
            seed=config.seed,
        )

    def agents_episodes(self) -> list[int]:
        """Episodes that the agent played: a mix holds a planner's too, and that is no learned play."""
        if self.agent is None:
            return []
        policy = f"agent {self.agent.identity}"
        return [episode for episode in self.frames.episode_ids if self.frames.policy(episode) == policy]

    def environment(self) -> AtariEnvConfig:
        """The game as it was recorded; what an import does not tell is the default."""
        info = self.frames.info
        told = {"game": info.game, "frame_skip": info.frame_skip, "sticky_probability": info.sticky_probability}
        return AtariEnvConfig(**(told | self.frames.artefact.manifest.config.get("env", {})))

    def max_steps(self) -> int | None:
        """Agent steps after which recorded episodes were truncated, if they were."""
        return self.frames.artefact.manifest.config.get("max_steps")


def run(config: EvaluateConfig) -> Artefact:
    """Measure and write the evaluation artefact."""
    chain = Chain.open(config)
    device, split = resolve_device(config.device, "--device"), chain.split()
    models, vqvae = load_models(chain, device), load_vqvae(chain.vqvae)
    draft = Draft.begin(config, "evaluation", chain.parents)
    sampling = chain.sampling(config)
    options = chain.latent_options(config, vqvae)
    latent = LatentMeasurement(chain.frames, chain.codes, models.decode, split, options)
    measurement = Measurement(chain.frames, chain.codes, models, split, sampling, latent)
    parts = PartMeter(chain.frames, chain.codes, models.decode, chain.seen_parts, sampling, measurement.median_frame)
    with (
        stop_on_signal(said=STOPPING) as stop,
        MetricLog(draft.metrics_path, "evaluate", config.wandb, draft.run.config) as log,
    ):
        _measure(measurement, "evaluate: models", stop)
        _measure(parts, "evaluate: parts of the split", stop)
        recorded, random = _returns(chain, config, stop)
        group = _returns_group(chain, recorded, random, config.seed)
        evaluation = _evaluation(chain, measurement, parts, group, config.seed)
        evaluation = evaluation.model_copy(update={"events": latent.events(config.seed)})
        figures = evaluation.manifest_figures()
        log.write(0, {name: value for name, value in figures.items() if isinstance(value, int | float)})
    measurement.exhibits(recorded, random).save(draft.path / PICTURES)
    latent.exhibits(config.seed).save(draft.path / CODES)
    write_json(draft.path / FIGURES, evaluation.model_dump(mode="json"))
    return draft.finish(figures)


def load_models(chain: Chain, device: torch.device) -> Models:
    """VQ-VAE and world model on `device`, as functions of CPU tensors."""
    vqvae, world_model = load_vqvae(chain.vqvae).to(device), load_world_model(chain.world_model).to(device)
    return Models(decode=_on(device, vqvae.decode), dynamics=_on(device, world_model))


def _on(device: torch.device, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors: function(*(tensor.to(device) for tensor in tensors))


def _measure(meter: Measurement | PartMeter, title: str, stop: StopRequest) -> None:
    with Progress(title, meter.num_samples, "samples") as progress:
        for num_samples in meter.run():
            progress.advance(num_samples)
            _raise_if(stop)


def _returns(chain: Chain, config: EvaluateConfig, stop: StopRequest) -> tuple[list[float], list[float]]:
    """Scores of the recorded episodes and of random play; both empty without an agent."""
    if chain.agent is None:
        return [], []
    recorded = [chain.frames.episode_return(episode) for episode in chain.agents_episodes()]
    environment, random = AtariEnv(chain.environment(), keep_frames=False), []
    with Progress("evaluate: random play", config.num_random_episodes, "episodes") as progress:
        for number in range(config.num_random_episodes):
            random.append(play_random_episode(environment, config.seed, number, chain.max_steps()))
            progress.advance()
            _raise_if(stop)
    return recorded, random


def _returns_group(chain: Chain, recorded: list[float], random: list[float], seed: int) -> FigureGroup:
    if chain.agent is None:
        missing = "Not measured: no agent was given with the frames, so these may be of random play themselves."
        return FigureGroup(name="returns", title="Return (agent)", data="", missing=missing)
    epsilon = chain.frames.artefact.manifest.config["epsilon"]
    data = (
        f"All {len(recorded)} recorded episodes of the trained agent, which drew a share ε = {epsilon:g} of its "
        f"actions at random, and {len(random)} episodes of random play in the same game."
    )
    cut = sum(bool(chain.frames.steps(episode).truncated[-1]) for episode in chain.agents_episodes())
    note = f"{cut} of the recorded episodes were cut off before the game was over." if cut else ""
    if others := len(chain.frames.episode_ids) - len(recorded):
        data += f" The other {others} recorded episodes are not the agent's and are not counted here."
    return returns_group(recorded, random, seed, data, note)


def _evaluation(
    chain: Chain, measurement: Measurement, parts: PartMeter, returns: FigureGroup, seed: int
) -> Evaluation:
    return Evaluation(
        game=chain.frames.info.game,
        held_out_episodes=tuple(measurement.held_out),
        num_held_out_steps=measurement.num_steps,
        groups=(returns, *measurement.groups(seed), parts.group(seed)),
        curves=measurement.curves(seed),
        facts={
            "choice": choice_remark(chain.chosen_on_held_out()),
            "ssim": measurement.ssim_fact,
            "rollouts": measurement.rollout_fact,
        },
    )


def _raise_if(stop: StopRequest) -> None:
    if stop:
        raise StoppedError("stopped; nothing was measured to the end. Start it again with --resume.")
