"""Bad input at the command line: exit code 2, one or two lines naming the fault, nothing written, nothing lost."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from lapa_ray import cli
from lapa_ray.stages.demo import CHAIN
from tests.support.small_chain import BRIEF, TINY_VQVAE, write_codes, write_frames
from tests.support.small_disk import mounted_tmpfs

pytestmark = pytest.mark.shared_ray

MICRO = Path(__file__).parents[2] / "tune_configs" / "micro"
READS = {stage: dict.fromkeys(reads) for stage, _, reads in CHAIN}
PROGRESS = re.compile(r"^[a-z-]+: [\d,]+/[\d,]+ .*/(s|min)\b.*\n", flags=re.MULTILINE)
NO_DEVICE = "this machine has none that PyTorch can use; give auto or cpu."
ROLES = [(stage, role) for stage, _, reads in CHAIN for role in reads]


@pytest.fixture
def whole(chain) -> Path:
    """The folder of the micro chain: one small whole artefact of each kind."""
    return chain.folder


def make(command: str, out: Path, *arguments: str) -> None:
    assert cli.main([command, f"--out={out}", *arguments]) == 0


def command_of(stage: str) -> str:
    return stage.replace("_", "-")


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(tmp_path, whole, capfd):
    """Run a command that must be refused; returns what it says. `tmp_path` and `whole` must be as before.

    `told` is what it may print before; a slow machine may also make it tell its progress.
    """

    def run(command: str, *arguments: str, told: str = "") -> str:
        capfd.readouterr()
        before = contents(tmp_path), contents(whole)
        assert cli.main([command, *map(str, arguments)]) == cli.EXIT_BAD_INPUT
        out, err = capfd.readouterr()
        assert out == told
        err = PROGRESS.sub("", err)
        assert err.startswith(f"lapa-ray {command}: ")
        assert len(err.splitlines()) <= 2, err
        assert (contents(tmp_path), contents(whole)) == before
        return err

    return run


def parents(whole: Path, stage: str, **others: Path) -> list[str]:
    return [f"--{role}={others.get(role, whole / role)}" for role in READS[stage]]


EACH_STAGE = pytest.mark.parametrize("stage", [stage for stage, _, _ in CHAIN])
EACH_ROLE = pytest.mark.parametrize(("stage", "role"), ROLES)


@EACH_STAGE
def test_a_misspelt_option(stage, refused, whole, tmp_path):
    message = refused(command_of(stage), f"--out={tmp_path / 'out'}", *parents(whole, stage), "--sede=3")
    assert "--sede: there is no such option; did you mean --seed?" in message


@EACH_STAGE
def test_a_misspelt_key_in_a_file(stage, refused, whole, tmp_path):
    (tmp_path / "my.yaml").write_text("sede: 3\n")
    options = [f"--out={tmp_path / 'out'}", *parents(whole, stage), f"--config={tmp_path / 'my.yaml'}"]
    assert "my.yaml: there is no option sede; did you mean seed?" in refused(command_of(stage), *options)


@EACH_STAGE
def test_a_value_out_of_range(stage, refused, whole, tmp_path):
    message = refused(command_of(stage), f"--out={tmp_path / 'out'}", *parents(whole, stage), "--seed=-1")
    assert "--seed: should be INT with 0 ≤ x < 2147483648; got -1." in message


@EACH_STAGE
def test_an_output_directory_that_holds_something_else(stage, refused, whole, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    message = refused(command_of(stage), f"--out={tmp_path / 'out'}", *parents(whole, stage))
    assert f"--out {tmp_path / 'out'}: holds something else" in message


@EACH_STAGE
def test_nothing_to_resume(stage, refused, whole, tmp_path):
    message = refused(command_of(stage), f"--out={tmp_path / 'out'}", *parents(whole, stage), "--resume")
    assert "there is no unfinished run" in message


@EACH_ROLE
def test_a_missing_artefact(stage, role, refused, whole, tmp_path):
    options = parents(whole, stage, **{role: tmp_path / "none"})
    assert f"{tmp_path / 'none'}: no such directory" in refused(
        command_of(stage), f"--out={tmp_path / 'out'}", *options
    )


@EACH_ROLE
def test_a_half_written_artefact(stage, role, refused, whole, tmp_path):
    shutil.copytree(whole / role, tmp_path / "half", ignore=shutil.ignore_patterns("manifest.json"))
    options = parents(whole, stage, **{role: tmp_path / "half"})
    message = refused(command_of(stage), f"--out={tmp_path / 'out'}", *options)
    assert f"{tmp_path / 'half'}: this {role} run has not finished" in message


@EACH_ROLE
def test_a_cut_manifest(stage, role, refused, whole, tmp_path):
    shutil.copytree(whole / role, tmp_path / "cut")
    manifest = tmp_path / "cut" / "manifest.json"
    manifest.write_text(manifest.read_text()[:100])
    options = parents(whole, stage, **{role: tmp_path / "cut"})
    assert f"{manifest}: damaged" in refused(command_of(stage), f"--out={tmp_path / 'out'}", *options)


@EACH_ROLE
def test_an_artefact_of_the_wrong_kind(stage, role, refused, whole, tmp_path):
    wrong = "frames" if role != "frames" else "codes"
    options = parents(whole, stage, **{role: whole / wrong})
    message = refused(command_of(stage), f"--out={tmp_path / 'out'}", *options)
    assert f"{whole / wrong} holds a {wrong} artefact" in message


@pytest.mark.parametrize("stage", ["train_vqvae", "train_world_model"])
def test_too_few_episodes_for_the_split(stage, refused, whole, tmp_path):
    write_frames(tmp_path / "one", num_episodes=1)
    write_codes(tmp_path / "one", whole / "vqvae", tmp_path / "one_coded")
    options = parents(whole, stage, frames=tmp_path / "one", codes=tmp_path / "one_coded")
    message = refused(command_of(stage), f"--out={tmp_path / 'out'}", *options)
    named = tmp_path / ("one" if stage == "train_vqvae" else "one_coded")
    assert f"{named} has 1 episode; a split by episode needs at least 2" in message


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 200] = bytes(200)
    path.write_bytes(content)


@pytest.mark.parametrize("fault", ["cut", "overwritten", "not Parquet"])
@pytest.mark.parametrize(("stage", "role"), [r for r in ROLES if r[1] in {"frames", "codes"} and r[0] != "report"])
def test_a_corrupt_shard_is_named(stage, role, fault, refused, whole, tmp_path, tmp_path_factory):
    shutil.copytree(whole / role, tmp_path / "corrupt")
    shard = max((tmp_path / "corrupt").glob("*.parquet"))
    if fault == "cut":
        os.truncate(shard, shard.stat().st_size // 2)
    elif fault == "overwritten":
        damage(shard)
    else:
        shard.write_text("not Parquet")
    options = [*parents(whole, stage, **{role: tmp_path / "corrupt"}), *quick_options(stage)]
    # Damage inside a shard shows when its screens are read: extract keeps the episodes that it encoded before.
    out = tmp_path_factory.mktemp("codes") / "out" if (stage, fault) == ("extract", "overwritten") else tmp_path / "out"
    assert f"{shard}: corrupt" in refused(command_of(stage), f"--out={out}", *options)
    assert not (out / "manifest.json").exists()


def quick_options(stage: str) -> list[str]:
    return {"train_vqvae": [*TINY_VQVAE, *BRIEF], "train_world_model": BRIEF}.get(stage, [])


@pytest.mark.parametrize("stage", ["train_dqn", "train_vqvae", "extract", "train_world_model", "evaluate"])
def test_a_gpu_where_there_is_none(stage, refused, whole, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    device = "--device=cuda" if stage == "evaluate" else "--resources.device=cuda"
    options = [*parents(whole, stage), *quick_options(stage), device]
    message = refused(command_of(stage), f"--out={tmp_path / 'out'}", *options)
    assert message == f"lapa-ray {command_of(stage)}: {device.replace('=', ' ')}: {NO_DEVICE}\n"


@pytest.mark.parametrize("stage", ["train_vqvae", "train_world_model"])
def test_a_device_that_no_worker_can_have(stage, refused, whole, tmp_path):
    import torch

    command = [command_of(stage), f"--out={tmp_path / 'out'}", *parents(whole, stage), "--resources.device=mps"]
    message = refused(*command, "--resources.num_workers=2")
    assert "--resources.num_workers 2: mps serves one worker; give 1, or --resources.device auto or cpu." in message
    if not torch.backends.mps.is_available():
        assert f"--resources.device mps: {NO_DEVICE}" in refused(*command, "--resources.num_workers=1")


def test_codes_made_by_another_vqvae(refused, whole, tmp_path):
    make("train-vqvae", tmp_path / "other", f"--frames={whole / 'frames'}", *TINY_VQVAE, *BRIEF, "--seed=1")
    options = parents(whole, "evaluate", vqvae=tmp_path / "other")
    message = refused("evaluate", f"--out={tmp_path / 'out'}", *options)
    assert f"{whole / 'codes'} (codes) was not made with the vqvae in {tmp_path / 'other'}" in message
    assert f"it was made with {whole / 'vqvae'}" in message


def test_an_evaluation_of_other_frames(refused, whole, tmp_path):
    write_frames(tmp_path / "other")
    message = refused("report", f"--out={tmp_path / 'out'}", *parents(whole, "report", frames=tmp_path / "other"))
    assert f"was not made with the frames in {tmp_path / 'other'}" in message


def edited(artefact: Path, copy: Path, **network: int) -> Path:
    """A copy of an artefact whose manifest tells another network shape than its weights have."""
    shutil.copytree(artefact, copy)
    content = json.loads((copy / "manifest.json").read_text())
    shape = content["config"]["network" if content["kind"] == "agent" else "model"]
    assert set(network) <= set(shape)
    shape.update(network)
    (copy / "manifest.json").write_text(json.dumps(content))
    return copy


def test_an_agent_of_another_network_shape(refused, whole, tmp_path):
    agent = edited(whole / "agent", tmp_path / "agent", hidden=32)
    message = refused("record", f"--out={tmp_path / 'out'}", f"--agent={agent}")
    assert "another network shape" in message


def test_an_agent_of_another_game(refused, whole, tmp_path):
    message = refused("record", f"--out={tmp_path / 'out'}", f"--agent={whole / 'agent'}", "--env.game=Pong")
    assert f"--agent {whole / 'agent'}: trained on MsPacman" in message


def test_an_agent_that_saw_other_observations(refused, whole, tmp_path):
    message = refused("record", f"--out={tmp_path / 'out'}", f"--agent={whole / 'agent'}", "--env.obs_size=96")
    assert "learnt from other observations; give --env.obs_size 84 --env.obs_channels 1." in message


def test_a_game_that_does_not_exist(refused, tmp_path):
    message = refused("train-dqn", f"--out={tmp_path / 'out'}", "--env.game=MsPackman")
    assert "--env.game MsPackman: the ALE has no such game; did you mean MsPacman" in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--replay.min_size=100", "--replay.capacity=50"], "--replay.min_size 100: larger than --replay.capacity 50"),
        (["--num_steps=10"], "--num_steps 10: ends before the first update (--replay.min_size 50000)"),
        (["--replay.beta_start=0.9", "--replay.beta_end=0.4"], "beta_start: should be at most beta_end (0.4); got 0.9"),
        (["--replay.n_step=60", "--replay.capacity=50"], "n_step: should be at most capacity (50); got 60"),
        (["--resources.device=cpu", "--resources.cuda_graph=true"], "--resources.cuda_graph: needs CUDA, and the"),
        (
            ["--shaping.dot_distance=1", "--env.game=Pong"],
            "--shaping.dot_distance: where dots lie is known of MsPacman",
        ),
        (["--env.obs_channels=2"], "--env.obs_channels: should be {1,3}; got 2"),
    ],
)
def test_options_that_contradict_each_other(refused, tmp_path, options, expected):
    assert expected in refused("train-dqn", f"--out={tmp_path / 'out'}", *options)


def test_no_disk_space(refused, whole, tmp_path):
    with mounted_tmpfs(tmp_path / "disk", "size=2m") as disk:
        message = refused("train-vqvae", f"--out={disk / 'out'}", *parents(whole, "train_vqvae"))
        assert f"--out {disk / 'out'}: no disk space" in message


def test_a_batch_larger_than_the_data(refused, whole, tmp_path):
    options = [*parents(whole, "train_vqvae"), *TINY_VQVAE, *BRIEF, "--training.batch_size=5000"]
    message = refused("train-vqvae", f"--out={tmp_path / 'out'}", *options)
    assert message.startswith("lapa-ray train-vqvae: --training.batch_size 5000: larger than the training set")


def test_options_that_do_not_go_together(refused, whole, tmp_path):
    options = [*parents(whole, "train_vqvae"), "--model.quantizer.cosine"]
    message = refused("train-vqvae", f"--out={tmp_path / 'out'}", *options)
    assert message.startswith("lapa-ray train-vqvae: --model.quantizer.cosine: needs kind ema")


def test_another_config_in_the_output_directory(refused, whole):
    options = [*parents(whole, "train_vqvae"), f"--config={MICRO / 'train_vqvae.yaml'}", "--learning_rate=0.5"]
    message = refused("train-vqvae", f"--out={whole / 'vqvae'}", *options)
    assert "learning_rate: 0.0003 there, 0.5 here" in message


def test_a_vqvae_of_another_network_shape(refused, whole, tmp_path):
    vqvae = edited(whole / "vqvae", tmp_path / "vqvae", width=3)
    message = refused("extract", f"--out={tmp_path / 'out'}", *parents(whole, "extract", vqvae=vqvae))
    assert "another network shape" in message


def test_the_demo_never_throws_away_what_it_did_not_make(refused, whole, tmp_path):
    shutil.copytree(whole / "agent", tmp_path / "agent")
    first = f"\n[1/{len(CHAIN)}] train-dqn\n"
    said = refused("demo", f"--out={tmp_path}", "--ray.num_cpus=2", told=first)
    assert f"--out {tmp_path / 'agent'}: holds a finished agent artefact of another run" in said
    assert said.splitlines()[1] == "The demo did not make it and so keeps it; give --out another directory."
