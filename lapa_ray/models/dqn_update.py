"""One update of a Q-network: forward, backward, clipping, Adam, and what is measured of it. Pure torch.

Nothing here waits for the device: metrics add up on it until they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lapa_ray.models.checkpoint import load_weights
from lapa_ray.models.graphed_update import GraphedUpdate
from lapa_ray.models.q_network import QNetwork, scale
from lapa_ray.models.td_loss import Loss, LossRule, Transitions

METRICS = ("loss", "mean_q", "variance_q", "max_q", "td_error", "gradient_norm")


@dataclass(frozen=True)
class UpdateSettings:
    """How updates are made: Adam's step size, the l2 norm that gradients are scaled down to, and by which means."""

    learning_rate: float
    max_gradient_norm: float
    is_bfloat16: bool = False
    is_channels_last: bool = False
    is_compiled: bool = False
    is_graphed: bool = False


class Evaluation:
    """A network, compiled or not, called in bfloat16 autocast or as it is. Its results are float32 either way.

    Each call has an autocast context of its own: one around several would hand a forward pass with gradients the
    weights that one without had cast, which know no gradients.
    """

    def __init__(self, network: QNetwork, settings: UpdateSettings) -> None:
        self._call: Any = torch.compile(network) if settings.is_compiled else network
        self._device_type = network.device.type
        self._is_bfloat16 = settings.is_bfloat16

    def __call__(self, obs: Tensor, taus: Tensor | None = None) -> Tensor:
        """What the network makes of `obs`."""
        with self.autocast():
            values: Tensor = self._call(obs, taus)
        return values

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that the network is called in."""
        return torch.autocast(self._device_type, torch.bfloat16, enabled=self._is_bfloat16)


class DqnUpdate:
    """Updates `network` by `rule`; `target` follows when it is told to."""

    def __init__(self, network: QNetwork, target: QNetwork, rule: LossRule, settings: UpdateSettings) -> None:
        self.network, self._target = network, target.requires_grad_(requires_grad=False)
        self._rule, self._settings = rule, settings
        if settings.is_channels_last:
            for one in (network, target):
                one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._online_values, self._target_values = Evaluation(network, settings), Evaluation(target, settings)
        self._optimizer: torch.optim.Optimizer = torch.optim.Adam(
            network.parameters(),
            lr=settings.learning_rate,
            fused=network.device.type != "mps",
            capturable=settings.is_graphed,
        )
        self._sums = torch.zeros(len(METRICS), device=network.device)
        self._run = self._runner()
        self.copy_to_target()

    def __call__(self, given: Transitions) -> Tensor:
        """Make one update; returns the |TD errors| float32 [B], on the device, to be read before the next one."""
        return self._run(given)

    def copy_to_target(self) -> None:
        """Make the target network the same as the network."""
        self._target.load_state_dict(self.network.state_dict())

    def take_sums(self) -> dict[str, float]:
        """Sums of the metrics over the updates since the last call. This waits for the device."""
        sums = dict(zip(METRICS, self._sums.tolist(), strict=True))
        self._sums.zero_()
        return sums

    def get_state(self) -> dict[str, Any]:
        """Everything that the next update depends on, but its batch; tensors on the device."""
        state = {
            "network": self.network.state_dict(),
            "target": self._target.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }
        if self.network.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.network.device)
        return state

    def set_state(self, state: dict[str, Any], path: Path) -> None:
        """Take over a state, which `path` names in a `LapaError` if it does not fit."""
        load_weights(self.network, state["network"], path)
        load_weights(self._target, state["target"], path)
        self._load_optimizer(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        if self.network.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"], self.network.device)
        self._sums.zero_()
        self._run = self._runner()

    def check_valid(self, *, is_fresh: bool) -> None:
        """Raise `AssertionError` if a weight is no number, or the target differs just after a copy (`is_fresh`)."""
        target = self._target.state_dict()
        for name, value in self.network.state_dict().items():
            assert torch.isfinite(value).all(), f"{name} is not finite"
            assert torch.isfinite(target[name]).all(), f"{name} of the target is not finite"
            assert not is_fresh or torch.equal(value, target[name]), f"{name} of the target was not copied"

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Take over moments and counts; how Adam computes is this machine's matter, not that of the one that saved."""
        own = [{name: group[name] for name in ("fused", "capturable")} for group in self._optimizer.param_groups]
        groups = [group | kept for group, kept in zip(state["param_groups"], own, strict=True)]
        self._optimizer.load_state_dict(state | {"param_groups": groups})

    def _runner(self) -> Callable[[Transitions], Tensor]:
        """The update, or its recording, which is made anew where Adam's state has moved."""
        return GraphedUpdate(self._make) if self._settings.is_graphed else self._make

    def _make(self, given: Transitions) -> Tensor:
        with self._online_values.autocast():
            # Once for all three evaluations: their stacks share all but n of their frames.
            given = given._replace(windows=scale(given.windows))
        result = self._rule(self._online_values, self._target_values, given)
        self._optimizer.zero_grad(set_to_none=True)
        result.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._settings.max_gradient_norm)
        self._optimizer.step()
        self._sums += _measure(result, norm)
        return result.td_errors


def _measure(result: Loss, norm: Tensor) -> Tensor:
    values = result.values
    return torch.stack(
        [result.loss.detach(), values.mean(), values.var(correction=0), values.max(), result.td_errors.mean(), norm]
    )
