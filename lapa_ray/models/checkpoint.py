"""Checkpoints of networks: whole or not there, and a file that does not fit is named. Knows no model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lapa_ray.core.errors import LapaError
from lapa_ray.core.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, dicts, lists) by rename."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU. Raises `LapaError` if it is missing or damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise LapaError(f"{path}: missing; the artefact is not whole, make it again.") from error
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise LapaError(
            f"{path}: damaged checkpoint ({str(error).splitlines()[0]}); make the artefact again."
        ) from error
    if not isinstance(state, dict):
        raise LapaError(f"{path}: not a checkpoint of lapa_ray.")
    return state


def load_weights(module: nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Give `module` its weights. Raises `LapaError` naming the first entry of `path` whose shape does not fit."""
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in expected | found:
        if expected.get(name) != found.get(name):
            raise LapaError(
                f"{path}: weights of another network shape ({name} is {found.get(name, 'missing')}, "
                f"{expected.get(name, 'nothing')} is expected); give the config that it was trained with."
            )
    module.load_state_dict(weights)


def on_cpu(state: Any) -> Any:
    """`state` with copies of its tensors on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().cpu().clone()
    if isinstance(state, dict):
        return {key: on_cpu(item) for key, item in state.items()}
    return [on_cpu(item) for item in state] if isinstance(state, list) else state
