"""A real `ray start --head`: jobs submitted to it, its two ports, and what it refuses."""

import subprocess

import grpc
import pytest

from lapa_ray import cli
from lapa_ray.actors.cluster_address import check_reachable
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.errors import LapaError
from tests.support.local_cluster import BIN, local_cluster
from tests.support.small_chain import BRIEF, TINY_VQVAE, write_codes, write_frames

LAPA_RAY = str(BIN / "lapa-ray")


@pytest.fixture(scope="module")
def cluster():
    with local_cluster() as cluster:
        yield cluster


def test_a_job_records_on_the_cluster_and_inspects_what_it_wrote(cluster, tmp_path):
    out = tmp_path / "frames"
    record = (
        f"{LAPA_RAY} record --agent random --num_episodes 1 --resources.num_workers 1 --env.max_frames 400 --out {out}"
    )
    job = cluster.submit("sh", "-c", f"{record} && {LAPA_RAY} inspect {out}")
    assert job.returncode == 0, job.stdout
    assert open_artefact(out, "frames").identity in job.stdout


def test_bad_input_makes_a_failed_job_that_says_why(cluster, tmp_path):
    job = cluster.submit(LAPA_RAY, "inspect", str(tmp_path / "none"))
    assert job.returncode != 0
    assert "lapa-ray inspect:" in job.stdout
    assert "no such directory" in job.stdout
    assert "exit code 2" in job.stdout


@pytest.fixture
def our_token(cluster, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)


def test_a_real_cluster_is_reachable_by_both_doors(cluster, our_token):
    check_reachable(cluster.address)
    wait_for_client_server(cluster)
    check_reachable(f"ray://127.0.0.1:{cluster.client_port}")


@pytest.mark.parametrize("setting", [{"RAY_AUTH_TOKEN": "f" * 64}, {"RAY_AUTH_MODE": "disabled"}])
def test_a_token_that_the_cluster_refuses_is_told_as_that(cluster, our_token, monkeypatch, setting):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    wait_for_client_server(cluster)
    for address in (cluster.address, f"ray://127.0.0.1:{cluster.client_port}"):
        with pytest.raises(LapaError, match="refuses the authentication token of this side") as error:
            check_reachable(address)
        assert len(str(error.value).splitlines()) == 2


def test_the_two_doors_of_a_cluster_are_told_apart(cluster):
    with pytest.raises(LapaError, match="something else listens on that port"):
        check_reachable(f"ray://{cluster.address}")
    wait_for_client_server(cluster)
    with pytest.raises(LapaError, match="something else listens on that port"):
        check_reachable(f"127.0.0.1:{cluster.client_port}")


def wait_for_client_server(cluster) -> None:
    """It comes up some seconds after the rest."""
    with grpc.insecure_channel(f"127.0.0.1:{cluster.client_port}") as channel:
        grpc.channel_ready_future(channel).result(timeout=60)


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> dict[str, list[str]]:
    """What each stage reads, made without the cluster."""
    folder = tmp_path_factory.mktemp("made")
    write_frames(folder / "frames")
    frames = f"--frames={folder / 'frames'}"
    assert cli.main(["train-vqvae", f"--out={folder / 'vqvae'}", frames, *TINY_VQVAE, *BRIEF]) == 0
    write_codes(folder / "frames", folder / "vqvae", folder / "codes")
    off = "--wandb.mode=disabled"
    return {
        "train-dqn": ["--config=tune_configs/micro/train_dqn.yaml", off],
        "train-vqvae": [frames, *TINY_VQVAE, off],
        "extract": [frames, f"--vqvae={folder / 'vqvae'}"],
        "train-world-model": [f"--codes={folder / 'codes'}", off],
    }


@pytest.mark.parametrize("stage", ["train-dqn", "train-vqvae", "extract", "train-world-model"])
def test_a_gpu_asked_of_a_cluster_without_any_is_refused_at_once(cluster, options, stage, tmp_path):
    """By the cluster: this machine needs none to drive one that has."""
    command = [LAPA_RAY, stage, f"--out={tmp_path / 'out'}", "--resources.device=cuda", *options[stage]]
    environment = cluster.environment | {"RAY_ADDRESS": cluster.address}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"lapa-ray {stage}: Ray: need 1 GPU, and no node of the cluster has one; "
        "give --resources.device auto or cpu, or add a GPU node first.\n"
    )
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()
