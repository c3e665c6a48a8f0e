"""Weights & Biases for real, without a network: offline mode writes its own run files into the artefact."""

import os
import subprocess
import sys
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import wandb

from lapa_ray.core.config import WandbConfig
from lapa_ray.core.metric_log import WANDB_SERVERS, MetricLog, read_metrics, wandb_histogram
from tests.support.local_cluster import free_port


def test_offline_keeps_a_run_beside_the_metrics(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_SILENT", "true")
    with MetricLog(
        tmp_path / "vqvae" / "metrics.jsonl", "train-vqvae", WandbConfig(mode="offline"), {"seed": 1}
    ) as log:
        assert (wandb.run.name, wandb.run.job_type) == ("vqvae", "train-vqvae")  # as the help says
        log.write(1, {"loss": 0.5, "nothing": float("nan")})
    assert read_metrics(tmp_path / "vqvae" / "metrics.jsonl")[0]["loss"] == 0.5
    runs = list((tmp_path / "vqvae" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 1
    assert runs[0].stat().st_size > 0
    assert capfd.readouterr().err == ""


def test_pictures_and_histograms_are_shown_there_and_not_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    picture = np.zeros((6, 4, 3), np.uint8)
    picture[1:3] = [250, 10, 90]
    with MetricLog(tmp_path / "metrics.jsonl", "train-vqvae", WandbConfig(mode="offline")) as log:
        log.write(7, {"loss": 0.5})
        log.show(7, {"reconstructions": picture}, {"codes": np.arange(1024)})
    (file,) = (tmp_path / "wandb").glob("offline-run-*/files/media/images/reconstructions_7_*.png")
    np.testing.assert_array_equal(cv2.imread(str(file))[..., ::-1], picture)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [7]


@pytest.mark.parametrize(
    ("size", "values", "bins"),
    [(3, [0, 1, 2], [0, 1, 2, 3]), (1024, [4 * n + 1 for n in range(512)], range(0, 1025, 2))],
)
def test_a_histogram_has_no_more_bins_than_it_may(size, values, bins):
    made = wandb_histogram(np.arange(size))
    assert list(made.histogram) == values
    assert list(made.bins) == list(bins)


REFUSED = """if True:
    import pathlib
    from lapa_ray.core.config import WandbConfig
    from lapa_ray.core.errors import LapaError
    from lapa_ray.core.metric_log import MetricLog
    try:
        MetricLog(pathlib.Path("metrics.jsonl"), "train-vqvae", WandbConfig(mode="online"))
    except LapaError as error:
        print(error)
"""


def test_a_server_that_does_not_take_the_run_is_told_and_leaves_nothing(tmp_path):
    """In a process of its own, since W&B reads its settings once."""
    server = {"WANDB_BASE_URL": f"http://127.0.0.1:{free_port()}", "WANDB_API_KEY": "a" * 40}
    environment = os.environ | server | {"WANDB_SILENT": "true", "WANDB_INIT_TIMEOUT": "1"}
    command = [sys.executable, "-c", REFUSED]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("--wandb.mode online: Weights & Biases refuses the run (")
    assert done.stdout.endswith("; give offline or disabled, or add --resume once it answers.\n")
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_the_public_server_is_the_one_whose_key_is_looked_for():
    from wandb.sdk.lib.urls import DEFAULT_BASE_URL

    assert urlsplit(DEFAULT_BASE_URL).netloc in WANDB_SERVERS
