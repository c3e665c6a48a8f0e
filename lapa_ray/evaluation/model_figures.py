"""Code statistics and rollout meters → the figure groups and horizon curves of codes and world model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lapa_ray.evaluation.codes import CodeFigures, CodeStatistics
from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.figures import Figure, FigureGroup, HorizonCurves
from lapa_ray.evaluation.pixels import PixelMetrics
from lapa_ray.evaluation.rollouts import OpenLoopMeter, TeacherForcedMeter
from lapa_ray.evaluation.tokens import TokenAccuracy

CHANGED_NOTE = "On the tokens alone that differ from the last grid seen; copy-last has 0 there by definition."


def codes_group(held_out: CodeStatistics, training: CodeStatistics, num_episodes: int, data: str) -> FigureGroup:
    """Use of the codebook, beside a grid that never changes: the mode of each position in the training split."""
    constant = CodeStatistics(*reversed(held_out.counts.shape))
    constant.update(training.mode()[None])
    ours, theirs = held_out.compute(), constant.compute()

    def figure(name: str, label: str, unit: str, read: Callable[[CodeFigures], float | None], note: str) -> Figure:
        return Figure(
            name=f"codes_{name}",
            label=label,
            unit=unit,
            better="neither" if name == "top_code_share" else "higher",
            estimate=_exact(read(ours), num_episodes, ours.num_codes),
            baselines={"constant_grid": _exact(read(theirs), num_episodes, ours.num_codes)},
            note=note,
        )

    size = held_out.counts.shape[1]
    return FigureGroup(
        name="codes",
        title="Codes (codebook use)",
        data=data,
        figures=(
            figure("perplexity", "Perplexity", "codes", lambda f: f.perplexity, f"Of {size} codes."),
            figure("used", "Codes used", "codes", lambda f: float(f.codes_used), f"Of {size} codes."),
            figure("entropy_bits", "H(code)", "bits", lambda f: f.entropy_bits, "Information in one token."),
            figure(
                "conditional_entropy_bits",
                "H(code | position)",
                "bits",
                lambda f: f.conditional_entropy_bits,
                "What is left once the place in the grid is known: 0 would mean that codes say nothing of the game.",
            ),
            figure("top_code_share", "Top-code share", "%", lambda f: f.top_code_share, "Of all tokens."),
        ),
    )


def world_model_group(
    teacher: TeacherForcedMeter, rollouts: OpenLoopMeter | None, seed: int, data: str, missing: str = ""
) -> FigureGroup:
    """Token accuracy, teacher forced and open loop, and the imagined pictures' error at the first and last horizon."""
    figures = [
        _token_figure("teacher_forced", "Teacher-forced accuracy", teacher.accuracy, seed, ""),
        _token_figure("teacher_forced_changed", "Teacher-forced accuracy", teacher.accuracy, seed, CHANGED_NOTE),
    ]
    if rollouts is not None:
        last = len(rollouts.accuracy)
        label = f"Open-loop accuracy, {last} step{'s' if last > 1 else ''} ahead"
        figures += [
            _token_figure(f"open_loop_h{last}", label, rollouts.accuracy[-1], seed, ""),
            _token_figure(f"open_loop_h{last}_changed", label, rollouts.accuracy[-1], seed, CHANGED_NOTE),
        ]
        for horizon in sorted({1, last}):
            figures += _picture_figures(horizon, rollouts.pixels[horizon - 1], seed)
    return FigureGroup(name="world_model", title="World model", data=data, figures=tuple(figures), missing=missing)


def horizon_curves(rollouts: OpenLoopMeter, seed: int) -> tuple[HorizonCurves, ...]:
    """Open-loop accuracy and imagined pictures' PSNR at each horizon, on all and on what changed."""
    tokens, pictures = rollouts.accuracy, rollouts.pixels
    right, right_changed = TokenAccuracy.accuracy, TokenAccuracy.changed_accuracy
    psnr, changed_psnr = PixelMetrics.psnr, PixelMetrics.changed_psnr
    return (
        _curves("open_loop_accuracy", "token accuracy", "%", tokens, right, seed),
        _curves("open_loop_accuracy_changed", "accuracy, changed tokens", "%", tokens, right_changed, seed),
        _curves("imagined_psnr_db", "PSNR, dB", "dB", pictures, psnr, seed),
        _curves("imagined_changed_psnr_db", "PSNR, changed pixels, dB", "dB", pictures, changed_psnr, seed),
    )


def _token_figure(name: str, label: str, accuracy: dict[str, TokenAccuracy], seed: int, note: str) -> Figure:
    changed = name.endswith("_changed")
    measure = TokenAccuracy.changed_accuracy if changed else TokenAccuracy.accuracy
    return Figure(
        name=f"world_model_{name}_accuracy",
        label=f"{label}{', changed tokens' if changed else ''}",
        unit="%",
        better="higher",
        estimate=measure(accuracy["model"], seed),
        baselines={key: measure(accuracy[key], seed) for key in ("copy_last_codes", "position_mode")},
        note=note,
    )


def _picture_figures(horizon: int, pixels: dict[str, PixelMetrics], seed: int) -> list[Figure]:
    steps = f"{horizon} step{'s' if horizon > 1 else ''} ahead"
    kinds = (("psnr_db", "", PixelMetrics.psnr), ("changed_psnr_db", " on changed pixels", PixelMetrics.changed_psnr))
    return [
        Figure(
            name=f"imagined_h{horizon}_{name}",
            label=f"Imagined frames' PSNR{suffix}, {steps}",
            unit="dB",
            better="higher",
            estimate=measure(pixels["model"], seed),
            baselines={"copy_last_frame": measure(pixels["copy_last_frame"], seed)},
            references={"true_codes": measure(pixels["true_codes"], seed)},
            note="Decoded true codes: what the VQ-VAE shows if every token is right.",
        )
        for name, suffix, measure in kinds
    ]


def _curves(
    name: str, label: str, unit: str, meters: Sequence[dict], measure: Callable[..., Estimate], seed: int
) -> HorizonCurves:
    return HorizonCurves(
        name=name,
        label=label,
        unit=unit,
        horizons=tuple(range(1, len(meters) + 1)),
        lines={key: tuple(measure(meter[key], seed) for meter in meters) for key in meters[0]},
    )


def _exact(value: float | None, num_episodes: int, num_samples: int) -> Estimate:
    """A figure over the whole split: no ratio of sums, so without an interval."""
    return Estimate(value=value, num_episodes=num_episodes, num_samples=num_samples)
