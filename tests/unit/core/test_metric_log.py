import json
import sys

import numpy as np
import pytest

from lapa_ray.core import metric_log
from lapa_ray.core.artefact import Draft
from lapa_ray.core.config import WandbConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.core.metric_log import MetricLog, read_metrics, resolve_wandb_mode
from tests.support.configs import BakeConfig


def test_rows_come_back_and_what_is_no_number_is_null(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    with MetricLog(path, "bake") as log:
        log.write(1, {"loss": 0.5, "return": float("nan"), "count": 3})
        log.write(2, {"loss": np.float32(0.25), "return": float("inf"), "count": None})
    assert read_metrics(path) == [
        {"stage": "bake", "step": 1, "loss": 0.5, "return": None, "count": 3},
        {"stage": "bake", "step": 2, "loss": 0.25, "return": None, "count": None},
    ]
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_each_row_is_on_disk_at_once(tmp_path):
    with MetricLog(tmp_path / "m.jsonl", "bake") as log:
        log.write(1, {"loss": 1.0})
        assert len(read_metrics(tmp_path / "m.jsonl")) == 1


def test_a_row_that_a_kill_cut_is_left_out_and_takes_no_other_with_it(tmp_path):
    path = tmp_path / "m.jsonl"
    with MetricLog(path, "bake") as log:
        log.write(1, {"loss": 1.0})
        log.write(2, {"loss": 2.0})
    path.write_bytes(path.read_bytes()[:-9])
    assert [row["step"] for row in read_metrics(path)] == [1]
    with MetricLog(path, "bake") as log:
        log.write(3, {"loss": 3.0})
    assert [row["step"] for row in read_metrics(path)] == [1, 3]


def test_no_file_is_no_rows(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("config", [None, WandbConfig(mode="disabled")])
def test_pictures_cost_nothing_where_nobody_shows_them(tmp_path, monkeypatch, config):
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import of it would raise
    with MetricLog(tmp_path / "m.jsonl", "bake", config) as log:
        log.show(1, {"cake": np.zeros((2, 2, 3), np.uint8)}, {"crumbs": np.arange(3)})
    assert (tmp_path / "m.jsonl").read_text() == ""


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(metric_log, "_SAID", False)


def test_auto_is_disabled_without_a_key_and_says_so_once(no_account, capsys):
    assert [resolve_wandb_mode(WandbConfig()) for _ in range(2)] == ["disabled"] * 2
    assert capsys.readouterr().err.count("Weights & Biases is off") == 1


@pytest.mark.parametrize("server", ["api.forge.coreweave.com", "api.wandb.ai"])
def test_auto_is_online_with_a_key(no_account, monkeypatch, tmp_path, capsys, server):
    (tmp_path / "netrc").write_text(f"machine {server} login user password secret\n")
    assert resolve_wandb_mode(WandbConfig()) == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert resolve_wandb_mode(WandbConfig()) == "online"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_mode_asked_for_is_the_mode(no_account, mode, capsys):
    assert resolve_wandb_mode(WandbConfig(mode=mode)) == mode
    assert capsys.readouterr().err == ""


def test_the_key_of_another_server_is_looked_for_by_its_name(no_account, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine wandb.example.org:8443 login user password secret\n")
    assert resolve_wandb_mode(WandbConfig()) == "disabled"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8443/api")
    assert resolve_wandb_mode(WandbConfig()) == "online"


def test_online_without_a_key_is_refused_before_anything_is_written(no_account, monkeypatch, tmp_path):
    config = BakeConfig(out=tmp_path / "out", flour=tmp_path, wandb=WandbConfig(mode="online"))
    with pytest.raises(LapaError, match=r"^--wandb\.mode online: no API key found; .*wandb login"):
        Draft.begin(config, "vqvae")
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    Draft.begin(config, "vqvae")
