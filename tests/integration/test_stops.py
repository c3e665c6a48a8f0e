"""Ctrl-C during a stage: exit code 130, the way to go on, and with --resume what an undisturbed run makes."""

import re
from pathlib import Path

import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from tests.support.interrupts import interrupt_when
from tests.support.small_chain import BRIEF, TINY_VQVAE, write_frames

pytestmark = pytest.mark.shared_ray

STAGES = {
    "vqvae": ("train-vqvae", ["frames"], [*TINY_VQVAE, *BRIEF, "--training.batch_size=8"]),
    "codes": ("extract", ["frames", "vqvae"], ["--resources.device=cpu"]),
    "world_model": (
        "train-world-model",
        ["codes"],
        ["--model.hidden=8", "--model.embedding=4", *BRIEF, "--training.batch_size=8"],
    ),
    "evaluation": (
        "evaluate",
        ["frames", "vqvae", "codes", "world_model"],
        ["--horizon=3", "--num_rollouts=6", "--num_pictured_rollouts=3", "--num_ssim_pairs=4", "--wandb.mode=disabled"],
    ),
    "data_quality": ("measure-data", ["frames"], []),
}
"""What each stage makes of what, briefly."""

TRAINED = r"stopped at update 1 of \d+; add --resume to continue\."
MEASURED = r"stopped; nothing was measured to the end\. Start it again with --resume\."
SAID = {
    "vqvae": TRAINED,
    "codes": r"stopped; the episodes encoded so far are kept\. Add --resume to continue\.",
    "world_model": TRAINED,
    "evaluation": MEASURED,
    "data_quality": MEASURED,
}


def run(folder: Path, kind: str, out: Path, *more: str) -> int:
    stage, reads, options = STAGES[kind]
    parents = [f"--{role}={folder / role}" for role in reads]
    return cli.main([stage, *parents, f"--out={out}", *options, *more])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of all that the stages make when they are left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_frames(folder / "frames", num_episodes=4)
    for kind in STAGES:
        assert run(folder, kind, folder / kind) == 0
    return folder


@pytest.mark.parametrize("kind", STAGES)
def test_a_stopped_stage_tells_how_to_go_on_and_ends_as_if_it_had_not_been(
    kind, undisturbed, tmp_path, monkeypatch, capfd
):
    out = tmp_path / kind
    with monkeypatch.context() as patched:
        interrupt_when(patched, "advance_to", lambda *_: True)
        assert run(undisturbed, kind, out) == cli.EXIT_STOPPED
    printed, said = capfd.readouterr()
    assert printed == ""
    assert re.fullmatch(f"lapa-ray {STAGES[kind][0]}: {SAID[kind]}", said.splitlines()[-1])
    assert not (out / "manifest.json").exists()
    assert run(undisturbed, kind, out, "--resume") == 0
    resumed, expected = (open_artefact(folder / kind, kind) for folder in (tmp_path, undisturbed))
    assert resumed.identity == expected.identity
    assert resumed.manifest.figures == expected.manifest.figures
