"""`visualize-latents` with the micro chain's agent and frames: what the network saw is what it sees here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.seeds import seed_for
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.envs.atari_env import AtariEnv, AtariEnvConfig
from lapa_ray.envs.entities import entities_of
from lapa_ray.evaluation.latents import observations, stacks
from lapa_ray.models.q_network import load_agent
from tests.support.interrupts import interrupt_when
from tests.support.small_chain import write_frames

NUM_STATES = 48


def visualize(folder: Path, out: Path, *more: str) -> int:
    reads = [f"--agent={folder / 'agent'}", f"--frames={folder / 'frames'}"]
    brief = [f"--num_states={NUM_STATES}", "--perplexity=8"]
    return cli.main(["visualize-latents", *reads, f"--out={out}", *brief, *more])


@pytest.fixture(scope="module")
def made(chain, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("latents") / "latents"
    assert visualize(chain.folder, out) == 0
    return out


def test_recorded_frames_give_back_what_the_agent_saw(chain):
    dataset = FrameDataset.open(chain.folder / "frames")
    episode = next(episode for episode in dataset.episode_ids if dataset.policy(episode).startswith("agent"))
    env, table = AtariEnv(AtariEnvConfig(max_frames=400)), dataset.steps(episode)
    seed = open_artefact(chain.folder / "frames").manifest.seed
    seen = [env.reset(seed_for(seed, "episode", episode)).obs]
    seen += [env.step(int(action)).obs for action in table.actions]
    np.testing.assert_array_equal(observations(dataset, episode), np.array(seen))


def test_the_table_holds_the_agents_values_and_what_ram_tells(made, chain):
    table = pq.read_table(made / "latents.parquet").to_pydict()
    dataset, network = FrameDataset.open(chain.folder / "frames"), load_agent(open_artefact(chain.folder / "agent"))
    assert len(table["step"]) == NUM_STATES
    assert set(table["episode_id"]) == set(dataset.episode_ids)
    for row in range(0, NUM_STATES, 7):
        episode, step = table["episode_id"][row], table["step"][row]
        stack = stacks(observations(dataset, episode), np.array([step]), size=4)
        with torch.inference_mode():
            values = network(torch.from_numpy(stack))[0]
        assert table["value"][row] == pytest.approx(float(values.max()), abs=1e-5)
        assert table["best_action"][row] == int(values.argmax())
        ram = dataset.steps(episode).ram[step]
        read = entities_of("MsPacman").read(ram)
        assert read.playing
        assert table["dots_eaten"][row] == int(read.dots_eaten)
        assert table["lives"][row] == int(read.lives)
        assert 0 <= table["distance_to_the_nearest_ghost"][row] < 250
    assert {"pca_1", "pca_2", "tsne_1", "tsne_2"} <= set(table)


def test_the_figure_has_five_colourings_of_two_embeddings(made):
    picture = cv2.imread(str(made / "latents.png"))
    assert picture.shape[1] / picture.shape[0] == pytest.approx(5 * 3.5 / (2 * 3.0), rel=0.01)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


def test_the_manifest_says_how_faithful_the_pictures_are(made):
    manifest = open_artefact(made, "latents").manifest
    assert list(manifest.parents) == ["agent", "frames"]
    assert manifest.figures["num_states"] == NUM_STATES
    for name in ("pca_explained_share", "pca_trustworthiness", "tsne_trustworthiness"):
        assert 0.4 < manifest.figures[f"agent_{name}"] <= 1


def test_a_stop_says_how_to_start_again(chain, tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patched:
        interrupt_when(patched, "advance", lambda *_: True)
        assert visualize(chain.folder, tmp_path / "out", "--batch_size=4") == cli.EXIT_STOPPED
    assert "stopped; nothing was embedded. Start it again with --resume." in capfd.readouterr().err
    assert visualize(chain.folder, tmp_path / "out", "--batch_size=4", "--resume") == 0


def test_bad_input_is_named_and_leaves_nothing(chain, tmp_path, capfd):
    write_frames(tmp_path / "short", num_episodes=1, max_frames=40)
    for more, said in (
        (["--perplexity=20"], "--perplexity 20: more than a third of the 48 states; lower it"),
        ([f"--frames={tmp_path / 'short'}"], "0 states in play are too few; record longer episodes."),
        ([f"--beside={chain.folder / 'agent'}"], "is the same agent as --agent; give another, or none."),
        (["--num_states=3"], "--num_states: should be INT with x ≥ 32; got 3"),
        ([f"--agent={chain.folder / 'frames'}"], "holds a frames artefact; an agent (made by train-dqn) is expected"),
    ):
        assert visualize(chain.folder, tmp_path / "out", *more) == cli.EXIT_BAD_INPUT
        err = capfd.readouterr().err
        assert said in err
        assert len(err.splitlines()) <= 2
        assert not (tmp_path / "out").exists()
