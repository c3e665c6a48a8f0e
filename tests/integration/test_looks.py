"""What entities look like, against composites of real play: sprites where they are shown, dots, bricks and digits."""

from __future__ import annotations

import numpy as np
import pytest

from lapa_ray.core.pictures import Compositor
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.entities import Entities, entities_of
from lapa_ray.envs.looks import looks_of
from lapa_ray.evaluation.marks_f1 import MarksF1
from lapa_ray.evaluation.sign_reading import SignReading, crops, signs_in
from lapa_ray.evaluation.sprite_recall import SpriteRecall

KEYS = ("copy", "true")


def play(game: str, num_steps: int) -> tuple[np.ndarray, Entities, np.ndarray]:
    """Composites [T+1, 210, 160], entities and RAM of an episode of turning at random."""
    env, generator, action = AtariEnv(AtariEnvConfig(game=game)), np.random.default_rng(1), 1
    compositor = Compositor(env.info.palette)
    steps = [env.reset(1)]
    while not steps[-1].is_last and len(steps) <= num_steps:
        action = int(generator.integers(env.num_actions)) if generator.random() < 0.3 else action
        steps.append(env.step(action))
    ram = np.stack([step.frames.ram[-1] for step in steps])
    return np.stack([compositor(step.frames.screens) for step in steps]), entities_of(game).read(ram), ram


@pytest.fixture(scope="module", params=["MsPacman", "Breakout"])
def game(request) -> tuple:
    looks = looks_of(request.param)
    return (request.param, looks, *play(request.param, 700 if request.param == "MsPacman" else 400))


def test_sprites_are_shown_in_their_colours_where_ram_has_them(game):
    name, looks, screens, entities, _ = game
    states = np.arange(1, len(screens))
    recalls = {sought.name: SpriteRecall(KEYS) for sought in looks.sprites(entities)}
    for sought in looks.sprites(entities):
        before, after = screens[:-1], screens[1:]
        recalls[sought.name].update(0, sought, states, before, after, {"copy": before, "true": after})
    counted = {sprite: recall for sprite, recall in recalls.items() if recall.shown.estimate().num_samples > 50}
    expected = {"player", "sue", "inky", "pinky", "blinky"} if name == "MsPacman" else {"ball", "paddle"}
    assert expected <= set(counted)
    for sprite, recall in counted.items():
        assert recall.shown.estimate().value > 0.8, sprite
        assert recall.recall("true", 1).value == 1, sprite
        assert recall.recall("copy", 2).value < 0.9, sprite
        assert recall.position_error("copy").value < 10, sprite


def test_dots_and_bricks_are_shown_where_ram_has_them(game):
    name, looks, screens, entities, _ = game
    (marks,) = looks.marks(entities)
    first = 80 if name == "MsPacman" else 10  # past the intro
    told, rows, columns = marks.told[first:], marks.rows.astype(int), marks.columns.astype(int)
    middle = screens[first:, rows + marks.height // 2, columns + marks.width // 2]
    for group in np.unique(marks.group):
        seen, there = middle[:, marks.group == group], told[:, marks.group == group]
        colour = np.bincount(seen[there]).argmax()
        judged = marks.judged[first:, marks.group == group]
        assert ((seen == colour) == there)[judged].mean() > 0.97  # the rest lies under a sprite
    f1 = MarksF1(KEYS)
    guesses = {"copy": screens[:-1], "true": screens[1:]}
    f1.update(0, marks, np.arange(1, len(screens)), screens[:-1], screens[1:], guesses)
    assert f1.there("true").value == 1
    assert f1.there("copy").value > 0.98
    assert f1.gone("copy").value == 0


def test_cells_hold_the_signs_of_score_and_lives(game):
    name, looks, screens, entities, _ = game
    digits, lives = looks.cells
    assert len({tuple(sign) for sign in signs_in(lives, screens)}) == (2 if name == "MsPacman" else 5)
    # The score's lowest digit that changes, read by its sign, is the same sign whenever it is the same digit.
    value = entities.score // (10 if name == "MsPacman" else 1) % 10
    cell = 4 if name == "MsPacman" else 2
    still = (
        np.flatnonzero((screens[1:] == screens[:-1])[:, digits.top : digits.top + digits.height].all(axis=(1, 2))) + 1
    )
    shown = crops(digits, screens[still])[:, cell]
    told = [value[still][(shown == sign).all(axis=1)] for sign in np.unique(shown, axis=0)]
    right = sum(np.bincount(values).max() for values in told)
    assert right > 0.97 * len(still)
    assert len({int(np.bincount(values).argmax()) for values in told}) > (3 if name == "MsPacman" else 1)
    reading = SignReading(KEYS)
    signs = signs_in(digits, screens)
    reading.update(0, digits, signs, screens[:-1], screens[1:], {"copy": screens[:-1], "true": screens[1:]})
    assert reading.right("true").value == 1
    assert reading.right_changed("copy").num_samples > 0
    assert reading.right_changed("copy").value < 0.5
