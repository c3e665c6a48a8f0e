"""An unreachable RAY_ADDRESS is refused with a message: Ray itself would try in silence for minutes."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from lapa_ray.stages.demo import CHAIN
from tests.support.local_cluster import free_port


@pytest.fixture
def refusal(tmp_path):
    """What `lapa-ray demo` says with RAY_ADDRESS=address; it writes nothing."""
    configs = tmp_path / "configs"
    configs.mkdir()
    for stage, _, _ in CHAIN:
        (configs / f"{stage}.yaml").touch()

    def demo(address: str) -> str:
        command = [sys.executable, "-m", "lapa_ray.cli", "demo", f"--out={tmp_path / 'out'}", f"--configs={configs}"]
        environment = os.environ | {"RAY_ADDRESS": address}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert not (tmp_path / "out").exists()
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) <= 2
        return done.stderr

    return demo


@pytest.mark.parametrize("form", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_an_address_where_nothing_listens(refusal, form):
    address = form.format(port=free_port())
    assert f"RAY_ADDRESS={address}: no Ray cluster answers there" in refusal(address)


@pytest.mark.parametrize("address", ["nonsense", "host:port"])
def test_an_address_of_the_wrong_form(refusal, address):
    assert f"RAY_ADDRESS={address}: not of the form HOST:PORT" in refusal(address)


def test_a_port_where_something_else_listens(refusal):
    """A listening port is not yet a cluster: Ray's own dashboard speaks HTTP, and its port is easily taken for it."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            port = server.stdout.readline().split("port ")[1].split()[0]
            assert "something else listens on that port" in refusal(f"127.0.0.1:{port}")
        finally:
            server.terminate()


class Refusing(grpc.GenericRpcHandler):
    """Answers every call alike, as a proxy that wants a log-in does."""

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "log in first")
        )


@pytest.mark.parametrize("handlers", [(), (Refusing(),)])
@pytest.mark.parametrize("form", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_a_port_where_another_grpc_server_answers(refusal, form, handlers):
    """HTTP/2 is not yet Ray: ray.init would warn for half a minute."""
    server = grpc.server(ThreadPoolExecutor(1), handlers=handlers)
    address = form.format(port=server.add_insecure_port("127.0.0.1:0"))
    server.start()
    try:
        message = refusal(address)
    finally:
        server.stop(grace=None).wait()
    assert f"RAY_ADDRESS={address}: no Ray cluster answers there (something else listens on that port" in message
