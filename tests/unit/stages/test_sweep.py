"""The plan of a sweep: every combination over seeds, what there cannot be refused by name, and the best as a file."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import yaml

from lapa_ray.core.artefact import MANIFEST, Draft
from lapa_ray.core.errors import LapaError
from lapa_ray.core.stop import StopRequest
from lapa_ray.evaluation.sweep_results import Setting, SweepTrial
from lapa_ray.stages import sweep_trials, train_vqvae, trials
from lapa_ray.stages.sweep import agents_of, run
from lapa_ray.stages.sweep_config import SweepConfig
from lapa_ray.stages.sweep_figures import check_told, speed_of
from lapa_ray.stages.sweep_outputs import best_yaml, write_table
from lapa_ray.stages.sweep_plan import plan, slug
from lapa_ray.stages.trials import TrialResources, TrialRun
from tests.support.drawn_play import PALETTE as NTSC
from tests.support.drawn_play import drawn, ram_of
from tests.support.recordings import write_play

SPACE = {"model.code_dim": [8, 16], "model.quantizer": [{"kind": "simvq"}, {"kind": "ema", "cosine": True}]}


def config(**fields) -> SweepConfig:
    return SweepConfig.model_validate({"out": "sweep", "frames": "frames", "num_seeds": 2} | fields)


def test_every_combination_is_trained_with_every_seed():
    planned = plan(config(space=SPACE, seed=5))
    assert len(planned) == 8
    told = [(c.model.code_dim, c.model.quantizer.kind, c.seed) for _, c in planned.values()]
    assert len(set(told)) == 8
    assert [seed for _, _, seed in told] == [5] * 4 + [6] * 4, "seed by seed"
    for name, (_, trial) in planned.items():
        assert trial.out == Path("sweep").resolve() / "trials" / name
        assert trial.resources.num_workers == 0


PALETTE = {"model.output": "palette", "loss.kind": "cross_entropy"}


def test_variants_differ_in_several_options_at_once_and_are_combined_with_the_space():
    given = config(variants={"squares": {}, "classes": PALETTE}, space={"model.code_dim": [8, 16]}, num_seeds=1)
    told = {name: (c.model.output, c.loss.kind, c.model.code_dim) for name, (_, c) in plan(given).items()}
    assert told == {
        "00_variant_squares_code_dim_8_seed_0": ("tanh", "mse", 8),
        "01_variant_squares_code_dim_16_seed_0": ("tanh", "mse", 16),
        "02_variant_classes_code_dim_8_seed_0": ("palette", "cross_entropy", 8),
        "03_variant_classes_code_dim_16_seed_0": ("palette", "cross_entropy", 16),
    }
    best = Setting({"variant": "classes", "model.code_dim": 16}, {}, {}, 1, 1, meets_constraints=True)
    written = yaml.safe_load(best_yaml(given, best))
    assert written == {"model": {"code_dim": 16, "output": "palette"}, "loss": {"kind": "cross_entropy"}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"space": {"variant": [1]}}, "--space variant: there is no such option of train-vqvae; name variants by"),
        ({"variants": {"one": {"model.code_dmi": 1}}}, "--variants one: model.code_dmi: there is no such option"),
        (
            {"space": {"model.code_dmi": [1]}},
            "--space model.code_dmi: there is no such option of train-vqvae",
        ),
        ({"space": {"width.model": [1]}}, "--space width.model: there is no such option"),
        ({"space": {"model.width": []}}, "--space model.width: names no values; give a list"),
        ({"space": {"model.width": [0]}}, r"--space \{'model.width': 0\}: model.width: Input should be greater"),
        ({"space": {"model.output": ["palette"]}}, "loss.kind: cross_entropy and model.output palette go together"),
        ({"space": {"resources.num_workers": [1, 2]}}, "--space resources.num_workers: each training of a sweep is"),
        ({"variants": {"one": {"resources.num_workers": 2}}}, "--variants one: resources.num_workers: each training"),
        (
            {"space": {"model.width": [8, 16, 8]}},
            r"^\{'model.width': 8\} and \{'model.width': 8\} are the same training; leave one out",
        ),
        ({"variants": {"a": {}, "b": {"model.width": 64}}}, r"'b'\} and \{'variant': 'a'\} are the same training"),
        ({"space": {"resources": [{"num_workers": 1}, {"num_workers": 2}]}}, "are the same training"),
        ({"seed": 2**31 - 1}, "--num_seeds 2: seeds beyond 2147483647"),
    ],
)
def test_what_there_cannot_be_is_refused_by_name(fields, told):
    with pytest.raises(LapaError, match=told):
        plan(config(**fields))


def test_the_best_is_written_as_differences_from_the_defaults():
    best = Setting({"model.quantizer": {"kind": "ema", "cosine": True}}, {}, {}, 2, 2, meets_constraints=True)
    text = best_yaml(config(train={"model": {"width": 16}}), best)
    assert yaml.safe_load(text) == {"model": {"width": 16, "quantizer": {"kind": "ema", "cosine": True}}}


def test_a_path_inside_another_of_the_space_is_refused_and_spoils_nothing():
    space = {"model.quantizer": [{"kind": "ema"}], "model.quantizer.codebook_size": [8]}
    given = config(space=space)
    with pytest.raises(LapaError, match="or another path or the variant gives all of its group"):
        plan(given)
    assert given.space == space


@pytest.mark.parametrize("fields", [{"objective": "perplexit"}, {"constraints": ["changed_psnr >= 7"]}])
def test_a_figure_by_a_wrong_name_is_refused_before_anything_is_trained(fields):
    with pytest.raises(LapaError, match="no validation figure; there are changed_psnr_db, code_swap_agreement, "):
        run(config(**fields))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"objective": "samples_per_s"}, "ASHA judges by validations, which tell no speed; add --asha.enabled false"),
        (
            {"constraints": ["samples_per_s > 9"], "train": {"training": {"max_updates": 300}}},
            "--constraints samples_per_s: needs two rows of it at least",
        ),
        (
            {"constraints": ["samples_per_s > 9"], "train": {"resources": {"throughput_period_updates": 0}}},
            "give --train.resources.throughput_period_updates at most half",
        ),
        ({"objective": "leakage_r2"}, "ASHA judges by validations, before it is told; add --asha.enabled false"),
        ({"objective": "samples_per_s", "asha": {"enabled": False}}, "at most half of --train.training.max_updates"),
    ],
)
def test_what_would_not_be_told_in_time_is_refused_before_anything_is_trained(fields, told):
    with pytest.raises(LapaError, match=told):
        run(config(**fields))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"objective": "plyer_recall_2px"},
            "--objective plyer_recall_2px: not of .*frames; there are player_",
        ),
        (
            {"constraints": ["ball_recall_2px > 0.5"]},
            "--constraints ball_recall_2px: not of .*frames; there are player_",
        ),
        (
            {"objective": "player_recall_2px", "train": {"model": {"colour": "grey"}}},
            "not of .*frames; sprites are told by RAM, a palette and colours alone",
        ),
    ],
)
def test_the_recall_of_a_sprite_that_no_validation_tells_is_refused(fields, told, tmp_path):
    play = write_play(tmp_path / "frames", [(ram_of(), drawn(ram_of()))] * 4, palette=NTSC)
    with pytest.raises(LapaError, match=told):
        run(config(frames=play.artefact.path, out=tmp_path / "sweep", **fields))
    assert not (tmp_path / "sweep").exists()


TOLD = {"asha": {"enabled": False}, "train": {"model": {"conditioning": "concat"}}}
BLIND, UNWATCHED = {"train": {"model": {"conditioning": "none"}}}, {"train": {"observe": {"num_swaps": 0}}}


@pytest.mark.parametrize(
    ("fields", "unknown", "told"),
    [
        (BLIND | {"objective": "code_swap_agreement"}, (), "needs RAM, a palette, model.conditioning, colours and"),
        (UNWATCHED | {"objective": "leakage_r2"}, (), "--objective leakage_r2: no training tells it; it needs RAM and"),
        ({"constraints": ["movement_r2 > 0"]}, ("ram",), "--constraints movement_r2: no training tells it"),
        ({"objective": "code_swap_found", "space": {"model.colour": ["grey"]}}, (), "no training tells it"),
    ],
)
def test_a_figure_of_actions_that_no_training_tells_is_refused(fields, unknown, told, tmp_path):
    play = write_play(tmp_path / "frames", [(ram_of(), drawn(ram_of()))] * 4, palette=NTSC, unknown=unknown)
    with pytest.raises(LapaError, match=told):
        run(config(frames=play.artefact.path, out=tmp_path / "sweep", **TOLD | fields))
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("objective", ["code_swap_agreement", "leakage_r2"])
def test_a_figure_of_actions_that_some_training_tells_is_not(objective, tmp_path):
    play = write_play(tmp_path / "frames", [(ram_of(), drawn(ram_of()))] * 4, palette=NTSC)
    given = config(frames=play.artefact.path, objective=objective, space={"model.conditioning": ["none", "film"]})
    check_told(given, plan(given), play)


def test_speed_is_the_median_of_the_rows_but_the_first():
    rates = [1.0, 30.0, None, 50.0, 40.0]
    rows = [{"step": 0, "val_loss": 1.0}, *({"step": step, "samples_per_s": rate} for step, rate in enumerate(rates))]
    assert speed_of(rows) == {"samples_per_s": 40.0}
    assert speed_of(rows[:2]) == {}


def test_a_setting_is_told_by_its_sign_too():
    assert [slug({"learning_rate": rate}) for rate in (1e30, 1e-30)] == ["learning_rate_1e+30", "learning_rate_1e-30"]


def test_a_whole_group_keeps_its_column_beside_a_figure_of_its_name(tmp_path):
    trials = [SweepTrial(kind, {"loss": {"kind": kind}}, 0, "whole", {"loss": 0.5}) for kind in ("mse", "l1")]
    write_table(tmp_path / "trials.parquet", trials)
    rows = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [(row["train.loss"], row["loss"]) for row in rows] == [("{'kind': 'mse'}", 0.5), ("{'kind': 'l1'}", 0.5)]


def test_the_agents_that_losses_look_through_are_parents_of_a_sweep(tmp_path, monkeypatch):
    def losses(*names: str) -> dict[str, dict]:
        return {name: {"loss.agent_weight": 1.0, "loss.agent": str(tmp_path / name)} for name in names}

    identities = {str(tmp_path / name): name[0] for name in ("a", "b", "a_moved")}
    found = lambda path, _kind: SimpleNamespace(identity=identities[str(path)])  # noqa: E731
    monkeypatch.setattr(train_vqvae, "open_artefact", found)
    planned = plan(config(variants={"plain": {}} | losses("a", "b", "a_moved")))
    parents = agents_of([trial for _, trial in planned.values()])
    assert {role: agent.identity for role, agent in parents.items()} == {"agent": "a", "agent_2": "b"}
    assert agents_of([trial for _, trial in plan(config()).values()]) == {}


def test_paths_of_a_trial_are_absolute():
    loss = {"agent_weight": 1.0, "agent": "runs/agent"}
    (_, trial), *_ = plan(config(train={"loss": loss})).values()
    assert trial.loss.agent == Path("runs/agent").resolve()
    assert trial.frames == Path("frames").resolve()


def reserved(fields: dict, folder: Path, monkeypatch) -> TrialRun:
    """What a sweep with such resources would have Ray run."""
    asked = []

    def run_trials(run: TrialRun, *_others: object) -> dict[str, str]:
        asked.append(run)
        return {}

    monkeypatch.setattr(sweep_trials, "run_trials", run_trials)
    given = config(out=folder, resources=fields, wandb={"mode": "disabled"})
    sweep_trials.train_all(given, plan(given), Draft(folder, None, resumed=False), StopRequest())
    return asked[0]


@pytest.mark.parametrize(
    ("fields", "bundle"),
    [
        ({"gpus_per_trial": 0.5}, {"CPU": 1.0, "GPU": 0.5}),
        ({"cpus_per_trial": 0.5, "gpus_per_trial": 0.25}, {"CPU": 0.5, "GPU": 0.25}),
        ({"cpus_per_trial": 0.5, "gpus_per_trial": 0}, {"CPU": 0.5}),
    ],
)
def test_a_trial_reserves_the_parts_of_cores_and_gpus_that_are_asked_for(fields, bundle, tmp_path, monkeypatch):
    made = reserved(fields, tmp_path, monkeypatch)
    assert made.bundles == [bundle]
    assert made.need == {"CPU": 0.0, "GPU": 0.0} | bundle


def test_what_a_killed_sweep_hid_is_gone_once_nothing_is_left_to_train(tmp_path, monkeypatch):
    """Killed after its last training, before it cleared up."""
    made = reserved({"gpus_per_trial": 0}, tmp_path, monkeypatch)
    for trial in made.configs.values():
        trial.out.mkdir(parents=True)
        (trial.out / MANIFEST).touch()
    hidden = [tmp_path / name for name in (trials.STOP_FILE, trials.BEGUN_FILE)]
    for path in hidden:
        path.touch()
    (tmp_path / trials.TUNE_FOLDER / "trials-1").mkdir(parents=True)
    assert trials.run_trials(made, StopRequest(), lambda: None) == {}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


class Task:
    """Knows its observer, and that one it."""

    def __init__(self) -> None:
        self.observer = lambda: self


def test_a_trial_leaves_nothing_in_its_process_for_the_next_one(tmp_path):
    left = []
    (_, trial), *_ = plan(config(out=tmp_path)).values()
    gc.disable()
    try:
        work = lambda _config, _stop: left.append(weakref.ref(Task()))  # noqa: E731
        trials.run_trial(trial, work, tmp_path / "stop", tmp_path / "failure")
    finally:
        gc.enable()
    assert left[0]() is None


@pytest.mark.parametrize(
    ("there", "need", "count"),
    [
        ({"CPU": 1.0}, {"CPU": 0.5, "GPU": 0.0}, 2),
        ({"CPU": 0.3}, {"CPU": 0.1, "GPU": 0.0}, 3),
        ({"CPU": 16.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 0.5}, 2),
        ({"CPU": 1.0, "GPU": 8.0}, {"CPU": 0.5, "GPU": 0.5}, 2),
    ],
)
def test_as_many_trials_run_at_once_as_their_parts_fit_into_the_cluster(there, need, count, monkeypatch):
    monkeypatch.setattr(trials.ray, "cluster_resources", lambda: there)
    assert trials.at_once(TrialResources(), need) == count
    assert trials.at_once(TrialResources(max_concurrent=1), need) == 1
