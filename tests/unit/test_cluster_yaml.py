"""cluster.yaml against Ray's own schema: no network, no credentials."""

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def prepared(cluster):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(cluster)
    validate_config(config)
    return config


def test_ray_accepts_it(prepared):
    assert prepared["provider"]["type"] == "aws"
    assert prepared["head_node_type"] in prepared["available_node_types"]


def test_ray_would_refuse_a_misspelt_key(cluster):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError, match="idle_timeout"):
        validate_config(prepare_config(cluster | {"idle_timeout": 3}))


def test_no_default_image_and_no_nightly_ray_slips_in(prepared):
    commands = [*prepared["setup_commands"], *prepared["head_setup_commands"], *prepared["worker_setup_commands"]]
    assert all(node["node_config"].get("ImageId") for node in prepared["available_node_types"].values())
    assert not any("ray-wheels" in command or "nightly" in command for command in commands)
    assert "ray==2.60.0" in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert any("constraints.txt" in command for command in prepared["setup_commands"])


def test_the_head_has_a_gpu_and_the_workers_are_autoscaled(prepared):
    nodes = prepared["available_node_types"]
    assert nodes["head"]["node_config"]["InstanceType"].startswith("g")
    assert nodes["worker"]["min_workers"] < nodes["worker"]["max_workers"] <= prepared["max_workers"]


def test_every_start_of_ray_uses_the_token_that_is_mounted(prepared):
    starts = [
        c for c in prepared["head_start_ray_commands"] + prepared["worker_start_ray_commands"] if "ray start" in c
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "~/.ray/auth_token" in prepared["file_mounts"]


def test_every_command_is_shell(prepared):
    keys = [key for key in prepared if key.endswith("_commands")]
    for command in [command for key in keys for command in prepared[key]]:
        subprocess.run(["bash", "-n", "-c", command], check=True)
