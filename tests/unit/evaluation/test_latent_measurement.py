"""Frames and codes of a made game of Ms. Pac-Man, measured as `evaluate` does: every answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lapa_ray.core.artefact import Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.frames import NO_ACTION, GameInfo, StepFrames
from lapa_ray.dataset.codes import CodeDataset, CodeEpisode, CodeInfo, write_codes
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.summary import frame_figures
from lapa_ray.dataset.writer import FrameWriter
from lapa_ray.envs.ms_pacman import HEADING, LEFT_OF_X, SPRITE_HEIGHT, SPRITE_WIDTH, TOP_OF_Y, X, Y
from lapa_ray.envs.palette import ntsc_palette
from lapa_ray.evaluation.latent_measurement import LatentMeasurement, LatentOptions
from tests.support.made_artefacts import made_vqvae
from tests.support.made_ram import made_ram
from tests.support.pictures import HEIGHT, WIDTH

NUM_STEPS, SIZE, PLAYER, FLOOR = 70, 16, 42, 144
MOVES = np.array([[0, -4], [4, 0], [0, 4], [-4, 0]])
PALETTE = ntsc_palette()


def screen(left: int, top: int) -> np.ndarray:
    picture = np.full((HEIGHT, WIDTH), FLOOR, dtype=np.uint8)
    picture[top : top + SPRITE_HEIGHT, left : left + SPRITE_WIDTH] = PLAYER
    return picture


def walk(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Headings [T], in straight stretches, and places [T+1, 2] of the sprite."""
    places, headings = [np.array([72, 80])], []
    while len(headings) < NUM_STEPS:
        heading = int(generator.integers(4))
        for _ in range(5):
            after = places[-1] + MOVES[heading]
            if after.min() >= 8 and after[0] <= WIDTH - 16 and after[1] <= 150:
                headings.append(heading)
                places.append(after)
    return np.array(headings[:NUM_STEPS]), np.array(places[: NUM_STEPS + 1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[FrameDataset, CodeDataset]:
    """Six episodes; token 0 is the way that the player goes, token 1 noise."""
    folder, generator = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    info = GameInfo("MsPacman", PALETTE, ("NOOP",), HEIGHT, WIDTH, 1, 0.0, "")
    draft, headings = Draft.begin(StageConfig(out=folder / "frames"), "frames"), {}
    with FrameWriter(folder / "frames", info, "frames", "random") as writer:
        for episode in range(6):
            headings[episode], places = walk(generator)
            ram = made_ram(NUM_STEPS + 1)
            ram[:, X["player"]], ram[:, Y["player"]] = places[:, 0] - LEFT_OF_X, places[:, 1] - TOP_OF_Y
            ram[1:, HEADING["player"]] = headings[episode]
            writer.begin_episode(episode)
            for state, place in enumerate(places):
                zero = np.zeros(1, np.int8)
                step = StepFrames(screen(*place)[None], ram[state][None], zero, zero + 0.0, zero)
                writer.append(0 if state else NO_ACTION, step, terminated=False, truncated=False)
            writer.end_episode()
    frames = draft.finish(frame_figures(folder / "frames"))
    return FrameDataset.open(folder / "frames"), made_codes(folder, frames, headings, generator)


def made_codes(folder: Path, frames, headings, generator: np.random.Generator) -> CodeDataset:
    vqvae = made_vqvae(folder / "vqvae", frames)
    info = CodeInfo("MsPacman", ("NOOP",), SIZE, (2, 1), "max4", vqvae.identity, frames.identity)
    draft = Draft.begin(StageConfig(out=folder / "codes"), "codes", {"frames": frames, "vqvae": vqvae})
    zeros = np.zeros(NUM_STEPS, np.int8)
    for episode, way in headings.items():
        codes = np.stack([way, generator.integers(4, SIZE, NUM_STEPS)], axis=1).astype(np.int16)
        told = CodeEpisode(codes, zeros, zeros, zeros.astype(np.float32), zeros > 0, zeros > 0)
        write_codes(folder / "codes", info, episode, told)
    draft.finish({"num_episodes": 6, "num_steps": 6 * NUM_STEPS, "codebook_size": SIZE, "num_actions": 1})
    return CodeDataset.open(folder / "codes")


def obeys(codes: Tensor, frames: Tensor) -> Tensor:
    """Frame t with the player moved as token 0 says, a level too bright."""
    colour, shown = torch.tensor(PALETTE[PLAYER]), []
    for way, frame in zip(codes[:, 0].tolist(), ((frames + 1) * 127.5).round(), strict=True):
        ys, xs = torch.nonzero((frame - colour[:, None, None]).abs().amax(dim=0) < 20, as_tuple=True)
        left, top = (int(axis.min()) if len(axis) else 80 for axis in (xs, ys))
        right, down = MOVES[way] if way < 4 else (0, 0)
        shown.append(PALETTE[screen(left + right, top + down)])
    return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float() / 127.5 - 1 + 2 / 255


def measured(made, *, sees_frame_t: bool) -> LatentMeasurement:
    frames, codes = made
    vectors = np.random.default_rng(0).normal(size=(SIZE, 4)).astype(np.float32)
    options = LatentOptions(
        composite="max4", palette=frames.info.palette, codebook_size=SIZE, grid=(2, 1), sees_frame_t=sees_frame_t,
        code_vectors=vectors, num_films=20, num_swaps=24, batch_size=16,
    )  # fmt: skip
    measurement = LatentMeasurement(frames, codes, obeys, ([0, 1, 2], [3, 4, 5]), options)
    for episode in (3, 4, 5):
        composites = frames.composites(episode)
        changed = (composites[1:] != composites[:-1]).sum(axis=(1, 2))
        measurement.update(episode, composites, changed)
    return measurement


@pytest.fixture(scope="module")
def actions(made) -> LatentMeasurement:
    return measured(made, sees_frame_t=True)


def test_codes_that_are_actions_are_found_to_be(actions) -> None:
    group = actions.group(0)
    figures = {figure.name: figure for figure in group.figures}
    assert figures["code_swap_agreement"].estimate.value == 1
    assert figures["code_swap_agreement"].references["true_frame"].value == 1
    assert figures["code_swap_error_px"].estimate.value == pytest.approx(0)
    assert figures["movement_r2"].estimate.value == pytest.approx(1, abs=0.05)
    leakage, delta = figures["leakage_r2"].estimate.value, figures["delta_psnr_4_player_db"].estimate.value
    assert leakage is not None
    assert leakage < 0.2
    assert delta is not None
    assert delta > 20
    assert group.data == (
        "20 films of 4 steps, evenly spaced over 3 held-out episodes; 24 code swaps; a probe fitted on 210 steps, "
        "asked of 210."
    )
    assert group.missing == ""


def test_the_code_of_a_turn_is_not_above_chance_and_rare_events_have_none(actions) -> None:
    rows = {row.event: row for row in actions.events(0)}
    assert set(rows) == {"dot eaten", "pill eaten", "ghost eaten", "death", "turn", "wall stop"}
    assert rows["turn"].num_events > 10
    assert rows["turn"].chance_lift is not None
    assert rows["turn"].answers[0].lift <= rows["turn"].chance_lift
    assert rows["death"].num_events == 0
    assert rows["death"].answers == ()


def test_swaps_are_shown_one_for_each_way_with_the_true_pictures_of_both_pairs(made, actions) -> None:
    shown, frames = actions.exhibits(0), made[0]
    assert len(shown.swap_moved) == 4
    for (episode, step), before, after in zip(shown.swap_a, shown.swap_a_before, shown.swap_a_after, strict=True):
        assert np.array_equal(np.stack([before, after]), PALETTE[frames.composites(int(episode))[step : step + 2]])
    for (episode, step), before in zip(shown.swap_b, shown.swap_b_before, strict=True):
        assert np.array_equal(before, PALETTE[frames.composites(int(episode))[step]])
    assert shown.activity_still.shape == (2,)
    assert len(shown.map_points) == SIZE


def test_without_a_look_at_frame_t_there_are_no_swaps_and_it_is_said(made) -> None:
    group = measured(made, sees_frame_t=False).group(0)
    assert not [figure for figure in group.figures if figure.name.startswith("code_swap")]
    assert "sees nothing of frame t" in group.missing
    assert "sees nothing of frame t" in group.figures[0].note
