"""Comparisons of made-up logs."""

from pathlib import Path

from lapa_ray.core.artefact import Artefact, Draft
from lapa_ray.core.config import StageConfig
from lapa_ray.core.files import write_json
from lapa_ray.evaluation.comparison import FIGURES, PICTURE, Comparison, Trial, TrialLog, compare
from lapa_ray.evaluation.comparison_page import comparison_panels
from lapa_ray.evaluation.data_quality import DataFigure, DataQuality, DatasetQuality
from lapa_ray.evaluation.estimates import Estimate
from lapa_ray.evaluation.panels import write_panels

NUM_STEPS = 1000


def rows(final_return: float, loss: float) -> list[dict]:
    """A log whose last tenth has two episodes of the final return, after others of 0."""
    told = [
        {"step": step, "num_episodes": step // 50, "num_updates": step, "return": 0.0, "loss": loss}
        for step in range(100, NUM_STEPS, 100)
    ]
    last = {"step": NUM_STEPS, "num_episodes": 20, "num_updates": NUM_STEPS, "return": final_return, "loss": loss}
    return [*told, last]


def logs(uniform: tuple[float, ...], prioritised: tuple[float, ...], failed: str = "") -> list[TrialLog]:
    made = []
    for replay, returns in (("uniform", uniform), ("prioritised", prioritised)):
        for seed, final_return in enumerate(returns):
            trial = Trial(name=f"{replay}_seed_{seed}", replay=replay, seed=seed, num_steps=NUM_STEPS, num_episodes=20)
            why = "the loss is nan <b>" if trial.name == failed else ""
            made.append(TrialLog(trial.model_copy(update={"failure": why}), rows(final_return, seed + 1.0)))
    return made


def quality(values: dict[str, float]) -> DataQuality:
    """Data figures of datasets by role; the role `beside` is random play."""
    figure = DataFigure(
        name="distinct_screens", group="pictures", label="Distinct screens", unit="screens", meaning="By hash."
    )
    return DataQuality(
        composite="max4",
        figures=(figure,),
        datasets=tuple(
            DatasetQuality(
                role=role,
                name="random" if role == "beside" else role,
                policy="random",
                path=role,
                identity=role,
                part=False,
                game="Toy",
                action_meanings=("NOOP",),
                sticky_probability=0.25,
                num_episodes=3,
                num_steps=9,
                estimates={"distinct_screens": Estimate(value=value, low=1, high=99, num_episodes=3, num_samples=9)},
            )
            for role, value in values.items()
        ),
    )


def compared(
    uniform: tuple[float, ...],
    prioritised: tuple[float, ...],
    *,
    failed: str = "",
    data: DataQuality | None = None,
    game: str = "Toy",
) -> Comparison:
    return compare(
        logs(uniform, prioritised, failed), game=game, num_steps=NUM_STEPS, final_share=0.1, data=data, seed=0
    )


def made_comparison(out: Path, game: str) -> Artefact:
    """A comparison artefact of made-up logs, as far as the report reads it."""
    draft = Draft.begin(StageConfig(out=out), "comparison")
    returns = (10.0, 20.0, 30.0), (40.0, 50.0, 60.0)
    comparison = compared(*returns, game=game)
    write_json(out / FIGURES, comparison.model_dump(mode="json"))
    write_panels(out / PICTURE, list(comparison_panels(logs(*returns), comparison, 0).values()), "agent steps")
    return draft.finish(comparison.manifest_figures())
