"""`ray job submit -- lapa-ray ...` against a real `ray start --head`."""

import pytest

from lapa_ray.core.artefact import open_artefact
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
