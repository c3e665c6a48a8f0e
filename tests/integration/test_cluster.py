"""A real `ray start --head`: jobs submitted to it, its two ports, and what it refuses."""

import grpc
import pytest

from lapa_ray.actors.cluster_address import check_reachable
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.errors import LapaError
from tests.support.local_cluster import BIN, local_cluster

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
