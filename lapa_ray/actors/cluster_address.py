"""The address of a cluster: RAY_ADDRESS in, an address where Ray is known to answer out. Connects to nothing.

Ray itself tries a wrong address in silence, or with a warning a second, for half a minute and longer.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]

from lapa_ray.core.errors import LapaError

CONNECT_TIMEOUT_S = 5.0
LOCAL_ADDRESSES = {"", "local"}
CLIENT_PREFIX = "ray://"
GCS_METHOD, CLIENT_METHOD = "/ray.rpc.NodeInfoGcsService/CheckAlive", "/ray.rpc.RayletDriver/ClusterInfo"
NO_METHOD = "/ray.rpc.NoSuchService/None"
KNOWN = {grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.NOT_FOUND}
"""What Ray answers to an empty request."""


def cluster_address() -> str | None:
    """RAY_ADDRESS, or None where it is unset, empty or `local`."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in LOCAL_ADDRESSES else address


def check_reachable(address: str) -> None:
    """Raise `LapaError` within seconds unless Ray answers at `address`, and takes the token of this side."""
    if address == "auto":
        return
    host, _, port = address.removeprefix(CLIENT_PREFIX).rpartition(":")
    if not host or not port.isdigit():
        raise LapaError(f"RAY_ADDRESS={address}: not of the form HOST:PORT or ray://HOST:PORT; correct or unset it.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise unreachable(address, str(error)) from error
    if os.environ.get("RAY_USE_TLS", "0") == "0":
        _check_server(f"{host}:{port}", address)


def unreachable(address: str, reason: str) -> LapaError:
    """The fault of an address where no cluster answers."""
    return LapaError(
        f"RAY_ADDRESS={address}: no Ray cluster answers there ({reason}).\n"
        "Start one (ray start --head, ray up cluster.yaml), or unset RAY_ADDRESS to run on this machine."
    )


def _check_server(target: str, address: str) -> None:
    """Ray's server knows a method of Ray's, and does not know every method.

    Proxies and other gRPC servers answer alike whatever they are asked.
    """
    method = CLIENT_METHOD if address.startswith(CLIENT_PREFIX) else GCS_METHOD
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        status = _status(channel, method)
        if status not in KNOWN or _status(channel, NO_METHOD) is not grpc.StatusCode.UNIMPLEMENTED:
            raise unreachable(address, "something else listens on that port, such as Ray's dashboard")
    if status is grpc.StatusCode.UNAUTHENTICATED:
        raise LapaError(
            f"RAY_ADDRESS={address}: the cluster refuses the authentication token of this side.\n"
            "Copy its ~/.ray/auth_token to this machine, or name it by RAY_AUTH_TOKEN_PATH; export RAY_AUTH_MODE=token."
        )


def _status(channel: Any, method: str) -> Any:
    try:
        channel.unary_unary(method)(b"", timeout=CONNECT_TIMEOUT_S, metadata=_token())
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _token() -> tuple[tuple[str, str], ...]:
    """What shows the token, from where Ray takes it; nothing if it is disabled or not there."""
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if not token and path.is_file():
        token = path.read_text(encoding="utf-8", errors="ignore")
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "disabled" or not token.strip():
        return ()
    return (("authorization", f"Bearer {token.strip()}"),)
