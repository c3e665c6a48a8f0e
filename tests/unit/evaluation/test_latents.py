import cv2
import numpy as np
import pytest
import torch

from lapa_ray.envs.breakout import BreakoutMap
from lapa_ray.envs.ms_pacman import GHOSTS, MsPacmanMap, X, Y
from lapa_ray.evaluation.latent_figure import Colouring, EmbeddingRow, write_latents
from lapa_ray.evaluation.latents import embed, latents_of, stacks, told_of
from lapa_ray.models.q_network import QNetwork, QNetworkConfig


def test_a_stack_ends_in_its_step_and_the_first_picture_fills_what_was_before():
    seen = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 84, 84), np.uint8)
    made = stacks(seen, np.array([0, 2, 9]), size=4)
    assert made.shape == (3, 4, 84, 84)
    assert made[..., 0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 1, 2], [6, 7, 8, 9]]


def test_latents_are_what_the_head_sees():
    torch.manual_seed(0)
    network = QNetwork(3, QNetworkConfig(channels=(4, 4, 4), hidden=16, frame_stack=2)).eval()
    stack = np.random.default_rng(0).integers(0, 256, (5, 2, 84, 84), dtype=np.uint8)
    found = latents_of(network, [stack[:3], stack[3:]])
    with torch.inference_mode():
        values = network(torch.from_numpy(stack))
    assert found.features.shape == (5, 16)
    by_head = found.features @ network.head.weight.detach().numpy().T + network.head.bias.detach().numpy()
    np.testing.assert_allclose(by_head, values.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.values, by_head.max(axis=1), atol=1e-5)
    np.testing.assert_array_equal(found.actions, by_head.argmax(axis=1))


@pytest.mark.parametrize(("options", "width"), [({"dueling": True}, 32), ({"head": "quantile"}, 16)])
def test_latents_of_other_heads_are_hidden_units_too(options, width):
    torch.manual_seed(0)
    network = QNetwork(3, QNetworkConfig(channels=(4, 4, 4), hidden=16, frame_stack=2, **options)).eval()
    stack = np.random.default_rng(0).integers(0, 256, (5, 2, 84, 84), dtype=np.uint8)
    found = latents_of(network, [stack[:3], stack[3:]])
    assert found.features.shape == (5, width)
    with torch.inference_mode():
        np.testing.assert_allclose(found.values, network(torch.from_numpy(stack)).max(dim=1).values, atol=1e-5)


def test_three_far_groups_stay_groups_in_both_embeddings():
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(3), 30)
    features = (100 * np.eye(8)[group] + generator.normal(size=(90, 8))).astype(np.float32)
    found = embed(features, perplexity=10, seed=0)
    for points in (found.pca, found.tsne):
        centres = np.array([points[group == number].mean(axis=0) for number in range(3)])
        nearest = np.linalg.norm(points[:, None] - centres, axis=-1).argmin(axis=1)
        np.testing.assert_array_equal(nearest, group)
    assert found.explained > 0.95
    assert found.tsne_trust > 0.9
    noise = embed(generator.normal(size=(90, 40)).astype(np.float32), perplexity=10, seed=0)
    assert noise.pca_trust < found.tsne_trust
    again = embed(features, perplexity=10, seed=0)
    np.testing.assert_array_equal(again.tsne, found.tsne)


def test_ram_tells_what_states_are_coloured_by():
    ram = np.zeros((2, 128), dtype=np.uint8)
    ram[:, 19] = 1  # two ghosts
    ram[0, 119] = 33
    for name, place in {"player": (50, 60), GHOSTS[0]: (53, 64), GHOSTS[1]: (90, 60), GHOSTS[3]: (50, 61)}.items():
        ram[:, X[name]], ram[:, Y[name]] = place
    told = told_of(MsPacmanMap().read(ram))
    assert told["dots eaten"].tolist() == [33, 0]
    assert told["distance to the nearest ghost, px"].tolist() == [5, 5]  # the fourth is not in the game
    ball = np.zeros((2, 128), dtype=np.uint8)
    ball[0, 101], ball[0, 30] = 90, 0b11000000
    read = told_of(BreakoutMap().read(ball))
    assert read["bricks left"].tolist() == [1, 0]
    assert read["height of the ball, pixel row"][0] == 99
    assert np.isnan(read["height of the ball, pixel row"][1])
    assert told_of(None) == {}


def test_the_figure_has_a_row_an_embedding_and_a_column_a_colouring(tmp_path):
    points = np.random.default_rng(0).normal(size=(60, 2))
    gaps = np.where(np.arange(60) % 7, np.arange(60.0), np.nan)
    colourings = [Colouring("value", gaps), Colouring("best action", np.arange(60) % 3, ("NOOP", "UP", "LEFT"))]
    sizes = []
    for rows in (1, 2):
        write_latents(tmp_path / "latents.png", [EmbeddingRow("PER: PCA", points, colourings)] * rows)
        picture = cv2.imread(str(tmp_path / "latents.png"))
        sizes.append(picture.shape[0])
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    assert sizes[1] == 2 * sizes[0]
