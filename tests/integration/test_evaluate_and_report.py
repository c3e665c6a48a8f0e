"""`evaluate` and `report` on a small real chain: the figures are those that plain NumPy finds in the same data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lapa_ray.core.artefact import Artefact, Draft, open_artefact
from lapa_ray.core.command_line import parse_config
from lapa_ray.core.config import StageConfig
from lapa_ray.core.errors import LapaError
from lapa_ray.dataset.codes import CodeDataset
from lapa_ray.dataset.reader import FrameDataset
from lapa_ray.dataset.splits import split_episodes, split_parts
from lapa_ray.evaluation.exhibits import Exhibits
from lapa_ray.evaluation.figures import Evaluation, format_value
from lapa_ray.evaluation.sweep_results import SweepResults, SweepTrial
from lapa_ray.stages import evaluate, measure_data, report, train_vqvae, train_world_model
from tests.support.comparisons import made_comparison
from tests.support.small_chain import BRIEF, TINY_VQVAE, write_codes, write_frames

SMALL = [
    *("--horizon=3", "--num_rollouts=6", "--num_pictured_rollouts=3", "--num_ssim_pairs=4", "--num_swaps=8"),
    "--num_part_pairs=6",
    "--device=cpu",
]
OFF = ["--wandb.mode=disabled"]
READS = ("frames", "vqvae", "codes", "world_model")


@pytest.fixture(scope="module")
def small_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    write_frames(folder / "frames")
    make_vqvae(folder / "frames", folder / "vqvae")
    write_codes(folder / "frames", folder / "vqvae", folder / "codes")
    world_model = ["--model.hidden=8", "--model.embedding=4", *BRIEF]
    make(train_world_model, folder / "world_model", [f"--codes={folder / 'codes'}", *world_model])
    make(evaluate, folder / "evaluation", [*paths(folder), *SMALL, *OFF])
    make(report, folder / "report", [*paths(folder), f"--evaluation={folder / 'evaluation'}"])
    return folder


def make(stage, out: Path, arguments: list[str]):
    return stage.run(parse_config(stage.CONFIG, [f"--out={out}", *arguments]))


def make_vqvae(frames: Path, out: Path, *arguments: str):
    return make(train_vqvae, out, [f"--frames={frames}", *TINY_VQVAE, *BRIEF, *arguments])


def paths(folder: Path) -> list[str]:
    return [f"--{role}={folder / role}" for role in READS]


def held_out_episode(small_chain: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Composites, codes and palette of the one held-out episode."""
    frames, codes = FrameDataset.open(small_chain / "frames"), CodeDataset.open(small_chain / "codes")
    _, (episode,) = split_episodes(frames.episode_ids, 0.1)
    return frames.composites(episode), codes.episode(episode).codes, frames.info.palette


def figures_of(small_chain: Path) -> dict:
    return open_artefact(small_chain / "evaluation", "evaluation").manifest.figures


def test_pixel_baselines_are_those_of_plain_numpy(small_chain: Path) -> None:
    composites, _, palette = held_out_episode(small_chain)
    before, after = palette[composites[:-1]].astype(float), palette[composites[1:]].astype(float)
    squared = (before - after) ** 2
    changed = composites[:-1] != composites[1:]
    found = figures_of(small_chain)
    assert found["reconstruction_psnr_db_copy_last_frame"] == pytest.approx(10 * np.log10(255**2 / squared.mean()))
    expected = 10 * np.log10(255**2 / squared[changed].mean())
    assert found["reconstruction_changed_psnr_db_copy_last_frame"] == pytest.approx(expected)
    assert found["reconstruction_l1_levels_copy_last_frame"] == pytest.approx(np.abs(before - after).mean())


def test_token_baselines_are_those_of_plain_numpy(small_chain: Path) -> None:
    _, codes, _ = held_out_episode(small_chain)
    dataset = CodeDataset.open(small_chain / "codes")
    training, _ = split_episodes(dataset.episode_ids, 0.2)
    seen = np.concatenate([dataset.episode(episode).codes for episode in training])
    mode = np.array([np.bincount(column).argmax() for column in seen.T])
    found = figures_of(small_chain)
    same = codes[1:] == codes[:-1]
    assert found["world_model_teacher_forced_accuracy_copy_last_codes"] == pytest.approx(same.mean())
    assert found["world_model_teacher_forced_accuracy_position_mode"] == pytest.approx((codes[1:] == mode).mean())
    if not same.all():
        expected = (codes[1:] == mode)[~same].mean()
        assert found["world_model_teacher_forced_changed_accuracy_position_mode"] == pytest.approx(expected)
    assert found["codes_used"] == len(np.unique(codes))


def test_entities_and_train_part_are_measured_beside_copy_last(small_chain: Path) -> None:
    composites, _, palette = held_out_episode(small_chain)
    found = figures_of(small_chain)
    # 120 frames are of the intro, in which nothing is looked for but dots, digits and icons.
    assert found["player_recall_2px"] is None
    assert found["dots_f1_true_frame"] == found["lives_read_true_frame"] == 1
    assert found["dots_f1_copy_last_frame"] > 0.9
    squared = (palette[composites[:-1]].astype(float) - palette[composites[1:]]) ** 2
    changed = composites[:-1] != composites[1:]
    expected = np.sqrt(squared[changed].mean())
    assert found["reconstruction_changed_l2_levels_copy_last_frame"] == pytest.approx(expected)
    assert found["reconstruction_train_psnr_db_copy_last_frame"] > 20
    assert not [name for name in found if name.startswith("reconstruction_validation")]
    html = (small_chain / "report" / "report.html").read_text(encoding="utf-8")
    assert "6 of the train part" in html
    assert "(validation part)" in html
    assert "Of the VQ-VAE and of the world model the checkpoint with the least loss" in html


def test_with_80_10_10_the_test_part_is_measured_and_nobody_chose_on_it(small_chain: Path, tmp_path: Path) -> None:
    frames = small_chain / "frames"
    make_vqvae(frames, tmp_path / "vqvae", "--pairs.split=80/10/10", "--training.batch_size=8")
    write_codes(frames, tmp_path / "vqvae", tmp_path / "codes")
    small = ["--split=80/10/10", "--training.batch_size=8", "--model.hidden=8", "--model.embedding=4", *BRIEF]
    make(train_world_model, tmp_path / "world_model", [f"--codes={tmp_path / 'codes'}", *small])
    made = make(evaluate, tmp_path / "evaluation", [f"--frames={frames}", *paths(tmp_path)[1:], *SMALL, *OFF])
    evaluation = Evaluation.model_validate_json((made.path / "figures.json").read_bytes())
    dataset = FrameDataset.open(frames)
    _, validation, test = split_parts(dataset.episode_ids, (0.8, 0.1, 0.1))
    assert list(evaluation.held_out_episodes) == test
    assert "(test part)" in next(group.data for group in evaluation.groups if group.name == "reconstruction")
    assert "no checkpoint was chosen on them" in evaluation.facts["choice"]
    steps = np.linspace(0, dataset.num_steps(validation[0]) - 1, 6).round().astype(int)
    composites = dataset.info.palette[dataset.composites(validation[0])].astype(float)
    error = ((composites[steps] - composites[steps + 1]) ** 2).mean()
    found = made.manifest.figures["reconstruction_validation_psnr_db_copy_last_frame"]
    assert found == pytest.approx(10 * np.log10(255**2 / error))


def test_the_figures_are_the_same_in_manifest_json_and_report(small_chain: Path) -> None:
    evaluation = Evaluation.model_validate_json((small_chain / "evaluation" / "figures.json").read_bytes())
    assert evaluation.manifest_figures() == figures_of(small_chain)
    assert json.loads((small_chain / "report" / "figures.json").read_text()) == evaluation.model_dump(mode="json")
    html = (small_chain / "report" / "report.html").read_text(encoding="utf-8")
    for figure in (figure for group in evaluation.groups for figure in group.figures):
        assert format_value(figure.estimate.value, figure.unit) in html
    assert evaluation.figure("return_mean") is None
    assert "no agent was given" in html


def test_pictures_are_of_the_held_out_episode(small_chain: Path) -> None:
    composites, codes, palette = held_out_episode(small_chain)
    exhibits = Exhibits.load(small_chain / "evaluation" / "pictures.npz")
    for step, before, after in zip(exhibits.pair_steps, exhibits.pair_before, exhibits.pair_after, strict=True):
        assert np.array_equal(before, palette[composites[step]])
        assert np.array_equal(after, palette[composites[step + 1]])
    start = exhibits.strip_start[1]
    assert np.array_equal(exhibits.strip_true, palette[composites[start + exhibits.strip_horizons]])
    assert exhibits.code_counts.sum() == codes.size


def test_the_report_walks_back_to_the_frames(small_chain: Path) -> None:
    manifest = open_artefact(small_chain / "report", "report").manifest
    assert set(manifest.parents) == {*READS, "evaluation"}
    html = (small_chain / "report" / "report.html").read_text(encoding="utf-8")
    for role in READS:
        assert open_artefact(small_chain / role).identity in html


def test_the_same_evaluation_again_gives_the_same_figures(small_chain: Path, tmp_path: Path) -> None:
    again = make(evaluate, tmp_path / "again", [*paths(small_chain), *SMALL, *OFF])
    assert again.identity == open_artefact(small_chain / "evaluation").identity
    assert again.manifest.figures == pytest.approx(figures_of(small_chain), nan_ok=True)


def test_codes_of_another_vqvae_are_refused_and_nothing_is_written(small_chain: Path, tmp_path: Path) -> None:
    make_vqvae(small_chain / "frames", tmp_path / "other", "--seed=1")
    arguments = [*paths(small_chain), f"--vqvae={tmp_path / 'other'}", *SMALL, *OFF]
    with pytest.raises(LapaError, match=r"codes.*was not made with the vqvae in .*other"):
        make(evaluate, tmp_path / "out", arguments)
    assert not (tmp_path / "out").exists()
    with pytest.raises(LapaError, match=r"evaluation.*was not made with the vqvae in .*other"):
        make(report, tmp_path / "out", [*arguments[:5], f"--evaluation={small_chain / 'evaluation'}"])
    assert not (tmp_path / "out").exists()


def test_the_report_shows_what_was_measured_of_its_frames(small_chain: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "other", num_episodes=2, max_frames=80, seed=5)
    both = f"--frames=[{small_chain / 'frames'}, {tmp_path / 'other'}]"
    data = make(measure_data, tmp_path / "data", [both])
    reads = [*paths(small_chain), f"--evaluation={small_chain / 'evaluation'}", f"--data_quality={data.path}"]
    made = make(report, tmp_path / "report", reads)
    assert made.manifest.parents["data_quality"].identity == data.identity
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert '<section id="data"' in html
    assert "random, frames" in html
    assert "random, other" in html
    assert '<section id="data"' not in (small_chain / "report" / "report.html").read_text(encoding="utf-8")


def made_sweep(out: Path, game: str) -> Artefact:
    """A sweep artefact of two made-up trainings, as far as the report reads it."""
    draft = Draft.begin(StageConfig(out=out), "sweep")
    figures = {"perplexity": 50.0, "changed_psnr_db": 15.0}
    trials = [SweepTrial(str(size), {"model.code_dim": size}, 0, "whole", figures) for size in (64, 32)]
    SweepResults.of(trials, "perplexity", "max").save(out)
    return draft.finish({"game": game})


def test_the_report_shows_a_sweep_on_its_game_and_refuses_another(small_chain: Path, tmp_path: Path) -> None:
    swept = made_sweep(tmp_path / "swept", "MsPacman")
    reads = [*paths(small_chain), f"--evaluation={small_chain / 'evaluation'}"]
    made = make(report, tmp_path / "report", [*reads, f"--sweep={swept.path}"])
    assert made.manifest.parents["sweep"].identity == swept.identity
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    section = html.partition('<section id="sweep"')[2].partition("</section>")[0]
    assert (
        "Of 2 settings, model.code_dim 64 has the highest mean perplexity: 50; next is model.code_dim 32: 50."
        in section
    )
    assert section.count("<svg") == 2
    made_sweep(tmp_path / "other", "Breakout")
    with pytest.raises(LapaError, match=r"--sweep .*other: is of Breakout, but the frames are of MsPacman"):
        make(report, tmp_path / "refused", [*reads, f"--sweep={tmp_path / 'other'}"])
    assert not (tmp_path / "refused").exists()


def test_the_report_shows_a_comparison_of_replays_on_its_game_and_refuses_another(
    small_chain: Path, tmp_path: Path
) -> None:
    compared = made_comparison(tmp_path / "compared", "MsPacman")
    reads = [*paths(small_chain), f"--evaluation={small_chain / 'evaluation'}"]
    made = make(report, tmp_path / "report", [*reads, f"--comparison={compared.path}"])
    assert made.manifest.parents["comparison"].identity == compared.identity
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Prioritised replay ends with a return of 50 (40 to 60), above the 20 (10 to 30) of uniform replay" in html
    assert html.count('class="curves" src="data:image/png;base64,') == 1
    made_comparison(tmp_path / "other", "Breakout")
    with pytest.raises(LapaError, match=r"--comparison .*other: is of Breakout, but the frames are of MsPacman"):
        make(report, tmp_path / "refused", [*reads, f"--comparison={tmp_path / 'other'}"])
    (compared.path / "comparison.png").unlink()
    with pytest.raises(LapaError, match=r"comparison\.png: damaged \(No such file .*\); run compare-replay again"):
        make(report, tmp_path / "refused", [*reads, f"--comparison={compared.path}"])
    assert not (tmp_path / "refused").exists()


def test_data_quality_of_other_frames_is_refused(small_chain: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "other", num_episodes=2, max_frames=80, seed=5)
    data = make(measure_data, tmp_path / "data", [f"--frames={tmp_path / 'other'}"])
    reads = [*paths(small_chain), f"--evaluation={small_chain / 'evaluation'}", f"--data_quality={data.path}"]
    with pytest.raises(LapaError, match=r"--data_quality .*data: tells of .*other, not of the frames in .*frames; run"):
        make(report, tmp_path / "report", reads)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("name", ["figures.json", "pictures.npz", "codes.npz"])
def test_a_damaged_evaluation_is_named(small_chain: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(small_chain / "evaluation", tmp_path / "evaluation")
    (tmp_path / "evaluation" / name).write_bytes(b"{")
    with pytest.raises(LapaError, match=rf"{name}: damaged"):
        make(report, tmp_path / "out", [*paths(small_chain), f"--evaluation={tmp_path / 'evaluation'}"])
    assert not (tmp_path / "out").exists()


def test_an_episode_shorter_than_the_horizon_is_said_to_be(small_chain: Path, tmp_path: Path) -> None:
    made = make(evaluate, tmp_path / "long", [*paths(small_chain), *SMALL, "--horizon=900", *OFF])
    assert not [name for name in made.manifest.figures if "open_loop" in name]
    make(report, tmp_path / "report", [*paths(small_chain), f"--evaluation={tmp_path / 'long'}"])
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "no held-out episode is longer than the horizon of 900 steps" in html
