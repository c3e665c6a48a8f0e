"""Codes and decoders whose every answer is known: actions that move a sprite, tokens that say where it is, noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lapa_ray.envs.entities import entities_of
from lapa_ray.envs.palette import ntsc_palette
from lapa_ray.evaluation.code_swap import (
    PlayerLook,
    SwapMeter,
    choose_swaps,
    colours_of,
    directions,
    find_player,
)
from lapa_ray.evaluation.controllability import STEPS, Boxes, ControllabilityMeter
from lapa_ray.evaluation.figures import Figure
from lapa_ray.evaluation.leakage import ProbeEpisode, leakage_figures
from lapa_ray.evaluation.one_step_control import OneStepControl
from lapa_ray.evaluation.pixels import to_8bit
from lapa_ray.evaluation.walks import Walk

HEIGHT, WIDTH, SIDE, STEP = 64, 64, 6, 3
ROW = WIDTH // STEP + 1
MOVES = np.array([[0, -STEP], [STEP, 0], [0, STEP], [-STEP, 0]])
"""Right and down of codes 0 to 3: up, right, down, left."""
PALETTE = np.zeros((256, 3), dtype=np.uint8)
PALETTE[1], PALETTE[2] = (0, 28, 136), (210, 164, 74)
FLOOR, PLAYER = 1, 2
NUM_STEPS = 160


def picture(place: np.ndarray) -> np.ndarray:
    shown = np.full((HEIGHT, WIDTH), FLOOR, dtype=np.uint8)
    shown[place[1] : place[1] + SIDE, place[0] : place[0] + SIDE] = PLAYER
    return shown


class Episode:
    """A sprite that walks by its codes, and turns where the picture ends."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        places, codes = [np.array([30, 30])], []
        while len(codes) < NUM_STEPS:
            code = int(generator.integers(4))
            after = places[-1] + MOVES[code]
            if after.min() >= 0 and after.max() <= HEIGHT - SIDE:
                codes.append(code)
                places.append(after)
        self.places, self.codes = np.array(places), np.array(codes)[:, None]
        self.composites = np.stack([picture(place) for place in places])
        known = np.ones(NUM_STEPS + 1, dtype=np.bool_)
        self.boxes = Boxes(self.places[:, 0], self.places[:, 1], known, SIDE, SIDE)
        self.walk = Walk(self.boxes, np.diff(self.places, axis=0), known[1:])

    @property
    def absolute_codes(self) -> np.ndarray:
        """Codes that say where the sprite is after the step."""
        return (self.places[1:] // STEP @ np.array([1, ROW]))[:, None]


EPISODES = {number: Episode(number) for number in range(4)}


def to_float(indices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(PALETTE[indices]).permute(0, 3, 1, 2).float() / 127.5 - 1


def obeys(codes: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Frame t with its sprite moved as the code says."""
    rgb = ((frames + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    shown = []
    for code, frame in zip(codes[:, 0].tolist(), rgb, strict=True):
        ys, xs = np.nonzero(np.abs(frame - PALETTE[PLAYER]).max(axis=-1) < 20)
        place = np.array([xs.min(), ys.min()]) if len(xs) else np.array([0, 0])
        shown.append(picture(np.clip(place + MOVES[code], 0, HEIGHT - SIDE)))
    return to_float(np.stack(shown))


def obeys_in_noise(codes: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """The same, two levels too bright: a perfect film has no finite PSNR."""
    return obeys(codes, frames) + 4 / 255


def places_it(codes: torch.Tensor, _frames: torch.Tensor) -> torch.Tensor:
    """A picture of where the code says that the sprite is."""
    places = [STEP * np.array([code % ROW, code // ROW]) for code in codes[:, 0].tolist()]
    return to_float(np.stack([picture(place) for place in places]))


def ignores(codes: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    return frames


def runs_on(codes: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Always to the right."""
    return obeys(torch.ones_like(codes), frames)


def controllability(decode) -> dict[str, Figure]:
    pool = {number: episode.codes for number, episode in EPISODES.items()}
    meter = ControllabilityMeter(decode, pool, PALETTE, batch_size=32)
    for number, episode in EPISODES.items():
        starts = np.arange(0, NUM_STEPS - STEPS + 1, 4)
        meter.update(number, episode.composites, episode.codes, starts, episode.boxes)
    return {figure.name: figure for figure in meter.figures(0, sees_frame_t=True)}


def swapped(decode, *, absolute: bool = False) -> dict[str, Figure]:
    walks = {number: episode.walk for number, episode in EPISODES.items()}
    codes = {n: e.absolute_codes if absolute else e.codes for n, e in EPISODES.items()}
    swaps = choose_swaps(walks, 80, seed=0)
    meter = SwapMeter(decode, codes, walks, swaps, PALETTE, PlayerLook(PALETTE[PLAYER]), batch_size=16)
    for number, episode in EPISODES.items():
        meter.update(number, episode.composites)
    assert meter.num_swaps == len(swaps) == 80
    assert sorted(directions(np.array([swap.moved for swap, _ in meter.shown]), 1.0).tolist()) == [0, 1, 2, 3]
    return {figure.name: figure for figure in meter.figures(0)}


def probed(number: int, *, absolute: bool) -> ProbeEpisode:
    episode = Episode(number)
    codes = episode.absolute_codes if absolute else episode.codes
    targets = np.concatenate([episode.places[1:], episode.walk.moved], axis=1).astype(np.float64)
    return ProbeEpisode(number, codes, targets)


def leakage(*, absolute: bool, num_training: int = 18) -> dict[str, Figure]:
    training = [probed(number, absolute=absolute) for number in range(10, 10 + num_training)]
    found = leakage_figures(training, [probed(number, absolute=absolute) for number in range(4)], ROW * ROW, 0)
    return {figure.name: figure for figure in found}


def test_codes_that_move_a_sprite_control_the_picture() -> None:
    found = controllability(obeys_in_noise)
    for name in ("delta_psnr_4_db", "delta_psnr_4_player_db"):
        estimate, chance = found[name].estimate, found[name].baselines["random_codes"]
        assert estimate.value is not None
        assert chance.value is not None
        assert estimate.value > 10
        assert abs(chance.value) < 1
        assert found[name].verdict() == "beats"
        assert estimate.num_samples == 4 * len(range(0, NUM_STEPS - STEPS + 1, 4))


def test_codes_without_effect_have_a_delta_psnr_of_zero() -> None:
    for figure in controllability(ignores).values():
        assert figure.estimate.value == 0
        assert (figure.estimate.low, figure.estimate.high) == (0, 0)


def test_delta_psnr_is_the_difference_of_the_pooled_psnrs() -> None:
    """By hand, of one film: the true picture is 10 levels away from the inferred one, 40 from a random one.

    Which is another's: the last pair's own code, of which there is one in seven, is never drawn.
    """
    codes = np.array([[40]] * (STEPS - 1) + [[10]])
    pictures = np.zeros((STEPS + 1, 8, 8), dtype=np.uint8)

    def level(codes: torch.Tensor, _frames: torch.Tensor) -> torch.Tensor:
        return (codes.float() / 127.5 - 1)[:, :, None, None].expand(-1, 3, 8, 8)

    meter = ControllabilityMeter(level, {7: np.full((3, 1), 40), 0: codes}, PALETTE, batch_size=20)
    meter.update(0, pictures, codes, np.zeros(60, np.int64), None)
    (figure,) = meter.figures(0, sees_frame_t=False)
    assert figure.estimate.value == pytest.approx(20 * np.log10(4))
    assert figure.baselines["random_codes"].value == 0
    assert "sees nothing of frame t" in figure.note


def test_actions_move_the_player_of_another_frame_the_same_way() -> None:
    found = swapped(obeys)
    agreement, error = found["code_swap_agreement"], found["code_swap_error_px"]
    assert agreement.estimate.value == 1.0
    assert error.estimate.value == pytest.approx(0, abs=1e-9)
    assert found["code_swap_found"].estimate.value == 1.0
    assert agreement.references["true_frame"].value == 1.0
    assert agreement.baselines["copy_last_frame"].value == 0
    assert error.baselines["copy_last_frame"].value == pytest.approx(STEP)
    for name in ("random_codes", "commonest_move"):
        share = agreement.baselines[name].value
        assert share is not None
        assert 0.1 < share < 0.5


def test_random_codes_of_a_swap_are_never_its_own() -> None:
    """Two swaps, up and down: each is held against the other. One alone has nothing to be held against."""
    walks = {number: episode.walk for number, episode in EPISODES.items()}
    by_way = {swap.moved: swap for swap in choose_swaps(walks, 80, seed=0)}
    pair = [by_way[0, -STEP], by_way[0, STEP]]
    codes = {number: episode.codes for number, episode in EPISODES.items()}
    for swaps, chance in ((pair, 0.0), (pair[:1], None)):
        for seed in range(5):
            meter = SwapMeter(
                obeys, codes, walks, swaps, PALETTE, PlayerLook(PALETTE[PLAYER]), batch_size=16, seed=seed
            )
            for number, episode in EPISODES.items():
                meter.update(number, episode.composites)
            agreement = meter.figures(0)[0]
            assert agreement.estimate.value == 1
            assert agreement.baselines["random_codes"].value == chance


def test_a_decoder_that_does_not_listen_agrees_by_chance_alone() -> None:
    assert swapped(ignores)["code_swap_agreement"].estimate.value == 0
    found = swapped(runs_on)["code_swap_agreement"]
    assert found.estimate == found.baselines["random_codes"]
    assert found.estimate.value is not None
    assert 0.1 < found.estimate.value < 0.5


def test_codes_that_say_where_the_player_is_do_not_move_it() -> None:
    found = swapped(places_it, absolute=True)
    share = found["code_swap_agreement"].estimate.value
    assert share is not None
    assert share < 0.3


def paddle(left: int) -> np.ndarray:
    """A paddle, a wall of its colour from column 152 on, and a ball of its colour just above, RGB."""
    shown = np.full((210, 160), FLOOR, dtype=np.uint8)
    shown[189:193, left : left + 16] = shown[50:195, 152:] = shown[183:187, left + 12 : left + 14] = PLAYER
    return PALETTE[shown]


@pytest.mark.parametrize("left", [60, 128, 136])
def test_a_wall_and_a_ball_of_the_players_colour_are_not_taken_for_it(left: int) -> None:
    look = PlayerLook(PALETTE[PLAYER], rows=(189, 193), columns=(8, 152))
    shown, box = paddle(left), (left, 189, 16, 4)
    found = find_player(shown, colours_of(shown, look.colour), box, 10, look)
    assert found is not None
    assert (found[0].tolist(), found[1]) == ([left + 7.5, 190.5], 64)
    anywhere = find_player(shown, colours_of(shown, look.colour), box, 10, PlayerLook(look.colour))
    assert anywhere is not None
    assert anywhere[1] > 64
    outside = find_player(shown, colours_of(shown, look.colour), (left, 100, 16, 4), 10, look)
    assert outside is None


def test_the_player_is_looked_for_where_the_looks_of_its_game_say() -> None:
    still = np.zeros((3, 128), dtype=np.uint8)
    breakout = PlayerLook.of("Breakout", entities_of("Breakout").read(still), ntsc_palette())
    assert breakout is not None
    assert (breakout.rows, breakout.columns) == ((189, 193), (8, 152))
    assert breakout.colour.tolist() == ntsc_palette()[70].tolist()
    pacman = PlayerLook.of("MsPacman", entities_of("MsPacman").read(still), ntsc_palette())
    assert pacman is not None
    assert (pacman.rows, pacman.columns) == ((0, 171), (0, 160))
    assert pacman.colour.tolist() == ntsc_palette()[42].tolist()


def test_a_player_that_is_not_there_is_not_found_and_counts_as_wrong() -> None:
    found = swapped(lambda codes, frames: to_float(np.full((len(codes), HEIGHT, WIDTH), FLOOR, np.uint8)))
    assert found["code_swap_found"].estimate.value == 0
    assert found["code_swap_agreement"].estimate.value == 0
    assert found["code_swap_error_px"].estimate.value is None


def test_swaps_are_into_frames_where_the_player_walks_straight_on_the_opposite_way_and_far_away() -> None:
    walks = {number: episode.walk for number, episode in EPISODES.items()}
    for swap in choose_swaps(walks, 50, seed=1):
        a, b = walks[swap.episode_a], walks[swap.episode_b]
        before, after = b.moved[swap.step_b - 1 : swap.step_b + 1].tolist()
        assert before == after
        assert a.moved[swap.step_a].tolist() == list(swap.moved) == (-b.moved[swap.step_b]).tolist()
        places = [(w.boxes.left[s], w.boxes.top[s]) for w, s in ((a, swap.step_a), (b, swap.step_b))]
        assert np.abs(np.subtract(*places)).max() >= 16


def test_directions_go_by_the_longer_axis() -> None:
    moved = np.array([[0, -2], [3, 1], [1, 2], [-4, 0], [0.4, -0.6]])
    assert directions(moved, 1.0).tolist() == [0, 1, 2, 3, -1]


def test_tokens_of_place_leak_and_actions_do_not() -> None:
    tokens, actions = leakage(absolute=True), leakage(absolute=False)
    for found, name, low, high in (
        (tokens, "leakage_r2", 0.75, 1.0),
        (actions, "leakage_r2", -0.2, 0.1),
        (actions, "movement_r2", 0.99, 1.0),
    ):
        value = found[name].estimate.value
        assert value is not None
        assert low <= value <= high, name
        assert found[name].baselines["mean_place"].value == pytest.approx(0)
    bound = tokens["leakage_r2"].references["cell_probe"].value
    assert bound is not None
    assert 0.4 < bound < 0.9  # two by three cells alone


@pytest.mark.parametrize("num_training", [1, 2])
def test_a_probe_of_one_or_two_training_episodes_is_fitted_without_a_warning(num_training: int) -> None:
    found = leakage(absolute=False, num_training=num_training)
    assert found["movement_r2"].estimate.value == pytest.approx(1, abs=0.05)
    assert found["leakage_r2"].num_fitted == found["movement_r2"].num_fitted == num_training * NUM_STEPS


def test_too_few_steps_are_not_probed() -> None:
    few = ProbeEpisode(0, np.zeros((3, 1), np.int64), np.zeros((3, 4)))
    assert leakage_figures([few], [few], 4, 0) == ()


def one_step(decode) -> dict[str, float]:
    control, episode = OneStepControl(decode), EPISODES[0]
    for start in range(0, 160, 40):
        before, after = (to_float(episode.composites[start + later : start + later + 40]) for later in (0, 1))
        changed = torch.from_numpy(episode.composites[start + 1 : start + 41] != episode.composites[start : start + 40])
        codes = torch.from_numpy(episode.codes[start : start + 40])
        control.update(codes, before, to_8bit(decode(codes, before)), to_8bit(after), changed)
    return control.figures()


def test_in_one_step_actions_change_what_moves() -> None:
    obeyed, ignored = one_step(obeys_in_noise), one_step(lambda codes, frames: frames + 4 / 255)
    assert obeyed["delta_changed_psnr_db"] > 20
    assert obeyed["delta_still_psnr_db"] < obeyed["delta_changed_psnr_db"]
    assert ignored == {"delta_changed_psnr_db": 0, "delta_still_psnr_db": 0}


def test_in_one_step_codes_that_give_a_grey_level_have_the_delta_of_their_errors() -> None:
    """Inferred: 10 levels too bright everywhere; random: 40, on changed and still pixels alike."""
    codes = torch.tensor([[10]] * 8 + [[40]] * 992)
    true, changed = torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.zeros(8, 4, 4, dtype=torch.bool)
    changed[:, 0] = True

    def level(codes: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        return (codes.float() / 127.5 - 1)[:, :, None, None].expand(-1, 3, 4, 4)

    control = OneStepControl(level)
    everything = torch.zeros(1000, 3, 4, 4)
    control.update(
        codes, everything, torch.full((1000, 3, 4, 4), 10, dtype=torch.uint8),
        true[:1].expand(1000, -1, -1, -1), changed[:1].expand(1000, -1, -1),
    )  # fmt: skip
    for gain in control.figures().values():
        assert gain == pytest.approx(20 * np.log10(4), abs=0.3)


def test_in_one_step_random_codes_are_drawn_from_all_batches_seen_so_far_which_are_never_joined(monkeypatch) -> None:
    decoded: list[torch.Tensor] = []

    def notes(codes: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        decoded.append(codes)
        return frames

    control, blank = OneStepControl(notes), torch.zeros(80, 3, 1, 1)
    with monkeypatch.context() as patched:
        patched.setattr(np, "concatenate", None)  # of all codes at every batch: quadratic
        for batch in range(3):
            codes = torch.arange(80 * batch, 80 * batch + 80)[:, None].expand(-1, 2)
            control.update(codes, blank, blank, blank, blank[:, 0] > 0)
    for batch, drawn in enumerate(decoded):
        assert drawn.shape == (10, 2)
        assert (drawn[:, 0] == drawn[:, 1]).all()
        assert 0 <= int(drawn.min()) <= int(drawn.max()) < 80 * batch + 80
    assert int(decoded[2].min()) < 80  # the first batch is still drawn from
    assert int(decoded[2].max()) >= 80


def test_without_a_pair_there_is_no_delta() -> None:
    assert all(np.isnan(gain) for gain in OneStepControl(ignores).figures().values())
