"""Weights & Biases for real, without a network: offline mode writes its own run files into the artefact."""

from lapa_ray.core.config import WandbConfig
from lapa_ray.core.metric_log import MetricLog, read_metrics


def test_offline_keeps_a_run_beside_the_metrics(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_SILENT", "true")
    with MetricLog(
        tmp_path / "vqvae" / "metrics.jsonl", "train-vqvae", WandbConfig(mode="offline"), {"seed": 1}
    ) as log:
        log.write(1, {"loss": 0.5, "nothing": float("nan")})
    assert read_metrics(tmp_path / "vqvae" / "metrics.jsonl")[0]["loss"] == 0.5
    runs = list((tmp_path / "vqvae" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 1
    assert runs[0].stat().st_size > 0
    assert capfd.readouterr().err == ""
