"""What Ray is told where it is started here, and where a cluster is joined."""

import os
from pathlib import Path

import pytest
import ray

from lapa_ray.actors import cluster
from lapa_ray.actors.cluster import UNSEEN, ray_session
from lapa_ray.core.config import RayConfig


@pytest.mark.parametrize(("address", "is_local"), [(None, True), ("somewhere:6379", False)])
def test_what_nobody_sees_is_not_gathered_by_a_ray_of_this_machine_alone(monkeypatch, address, is_local):
    seen = {}
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_options: seen.update(os.environ))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(cluster, "cluster_address", lambda: address)
    monkeypatch.setattr(cluster, "check_reachable", lambda _address: None)
    monkeypatch.setattr(cluster, "_make_token_private", lambda: None)
    with ray_session(RayConfig()):
        pass
    assert seen == (UNSEEN if is_local else {})


def test_ray_knows_their_names():
    """Which are none of its documented interface."""
    library = Path(ray._raylet.__file__).read_bytes()
    assert all(name.removeprefix("RAY_").encode() in library for name in UNSEEN)
