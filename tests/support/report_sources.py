"""What a report is made of, drawn by hand: known figures, drawings for pictures, three small artefacts."""

from __future__ import annotations

import numpy as np

from lapa_ray.core.artefact import Manifest, Parent
from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.exhibits import Exhibits
from lapa_ray.evaluation.figures import Evaluation, Figure, FigureGroup, HorizonCurves
from lapa_ray.evaluation.page import Change, Source

HORIZON = 15


def estimate(value: float | None, spread: float | None = None) -> Estimate:
    low, high = (None, None) if spread is None or value is None else (value - spread, value + spread)
    return Estimate(value=value, low=low, high=high, num_episodes=4, num_samples=1000)


def drawn_evaluation(game: str = "MsPacman") -> Evaluation:
    figure = Figure
    returns = figure(
        name="return_mean", label="Return, mean of episodes", unit="points", better="higher",
        estimate=estimate(431.0, 90), baselines={"random": estimate(262.5, 60)},
    )  # fmt: skip
    reconstruction = tuple(
        figure(
            name=f"reconstruction_{name}", label=label, unit=unit, better="lower" if unit == "levels" else "higher",
            estimate=estimate(ours, ours / 50),
            baselines={"copy_last_frame": estimate(theirs, theirs / 50), "median_frame": estimate(theirs * 0.9)},
        )
        for name, label, unit, ours, theirs in (
            ("psnr_db", "PSNR", "dB", 26.31, 28.4),
            ("changed_psnr_db", "PSNR on changed pixels", "dB", 11.82, 6.31),
            ("ssim", "SSIM", "", 0.951, 0.958),
        )
    )  # fmt: skip
    codes = figure(
        name="codes_perplexity", label="Perplexity", unit="codes", better="higher", estimate=estimate(57.3),
        baselines={"constant_grid": estimate(21.0)}, note="Of 64 codes.",
    )  # fmt: skip
    accuracy = figure(
        name="world_model_teacher_forced_accuracy", label="Teacher-forced accuracy", unit="%", better="higher",
        estimate=estimate(0.7123, 0.02),
        baselines={"copy_last_codes": estimate(0.8312, 0.02), "position_mode": estimate(0.6)},
    )  # fmt: skip
    return Evaluation(
        game=game,
        held_out_episodes=(3, 8, 9, 14),
        num_held_out_steps=2345,
        groups=(
            FigureGroup(name="returns", title="Return (agent)", data="10 episodes of each.", figures=(returns,)),
            FigureGroup(name="reconstruction", title="Reconstruction", data="All pairs.", figures=reconstruction),
            FigureGroup(name="codes", title="Codes", data="All tokens.", figures=(codes,)),
            FigureGroup(name="world_model", title="World model", data="All steps.", figures=(accuracy,)),
        ),
        curves=drawn_curves(),
        facts={"ssim": "SSIM was measured on 200 of 2,345 pairs."},
    )


def drawn_curves() -> tuple[HorizonCurves, ...]:
    steps = np.arange(1, HORIZON + 1)
    model = tuple(estimate(float(0.72 * 0.97**h), 0.03) for h in steps)
    copy_last = tuple(estimate(float(0.84 * 0.95**h), 0.02) for h in steps)
    mode = tuple(estimate(0.55) for _ in steps)
    return (
        HorizonCurves(
            name="open_loop_accuracy", label="token accuracy", unit="%", horizons=tuple(steps.tolist()),
            lines={"model": model, "copy_last_codes": copy_last, "position_mode": mode},
        ),
    )  # fmt: skip


def drawn_exhibits(height: int = 210, width: int = 160) -> Exhibits:
    def picture(seed: int) -> np.ndarray:
        rgb = np.zeros((height, width, 3), dtype=np.uint8)
        rgb[seed % 7 :: 12, :] = (0, 28, 136)
        rgb[20 + seed : 34 + seed, 60:74] = (210, 164, 74)
        return rgb

    generator = np.random.default_rng(0)
    noise = generator.integers(-40, 40, size=(6, height, width, 3))
    true = np.stack([picture(seed) for seed in range(6)])
    imagined = np.clip(true + noise, 0, 255).astype(np.uint8)
    return Exhibits(
        pair_names=np.array(["still", "typical", "moving", "most changed"]),
        pair_episodes=np.array([3, 3, 8, 9]),
        pair_steps=np.array([10, 200, 312, 77]),
        pair_changed_pixels=np.array([1, 212, 540, 12034]),
        pair_before=true[:4],
        pair_after=true[1:5],
        pair_reconstructed=imagined[1:5],
        strip_start=np.array([8, 300]),
        strip_seen=true[:1],
        strip_horizons=np.array([1, 2, 4, 7, 11, 15]),
        strip_actions=np.array(["UP", "UP", "LEFT", "LEFT", "DOWNLEFT", "NOOP"]),
        strip_true=true,
        strip_imagined=imagined,
        code_counts=generator.poisson(generator.exponential(4, size=(1, 64)) * generator.random((35, 64)) ** 4),
        recorded_returns=np.array([210.0, 360, 410, 520, 655]),
        random_returns=np.array([120.0, 180, 250, 250, 310, 465]),
    )


def drawn_sources() -> list[Source]:
    steps = range(0, 20_000, 100)
    agent_rows = [
        {"stage": "train-dqn", "step": s, "loss": 1 / (1 + s / 4000), "epsilon": 0.1 ** (s / 1e4), "mean_q": s / 1e4}
        for s in steps
    ]
    agent = drawn_manifest("agent", {}, {"use_per": True, "note": "<script>alert(1)</script>"})
    frames = drawn_manifest("frames", {"agent": agent}, {"num_episodes": 12})
    vqvae = drawn_manifest("vqvae", {"frames": frames}, {"model": {"width": 16}})
    changes = (Change("learning_rate", "0.001", "0.0003"), Change("model.width", "16", "64"))
    return [
        Source("agent", "train-dqn", "runs/demo/agent", agent, (Change("use_per", "true", "false"),), agent_rows),
        Source("frames", "record", "runs/demo/frames", frames, ()),
        Source("vqvae", "train-vqvae", "runs/demo/vqvae", vqvae, changes, [{"step": 1, "val_loss": 0.5}]),
    ]


def drawn_manifest(kind: str, parents: dict[str, Manifest], config: dict) -> Manifest:
    return Manifest(
        kind=kind,
        schema_version=1,
        identity=f"{sum(map(ord, kind)):016x}",
        config=config,
        identity_config=config,
        seed=0,
        versions={"lapa-ray": "0.1.0", "torch": "2.13.0"},
        parents={r: Parent(kind=m.kind, path=f"runs/demo/{r}", identity=m.identity) for r, m in parents.items()},
        started="2026-11-21T00:00:00+00:00",
        figures={},
        seconds=12.5,
    )
