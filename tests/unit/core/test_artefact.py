import json
from pathlib import Path

import numpy as np
import pytest

from lapa_ray.core import artefact as artefact_module
from lapa_ray.core.artefact import Draft, check_same_parent, open_artefact, read_run, withdrawn_if_barren
from lapa_ray.core.errors import AlreadyWholeError, IdentityMismatchError, LapaError
from tests.support.configs import BakeConfig, NetworkConfig
from tests.support.small_disk import fill, mounted_tmpfs


@pytest.fixture
def config(tmp_path):
    return BakeConfig(out=tmp_path / "out", flour=tmp_path / "flour")


@pytest.fixture
def frames(tmp_path):
    return make(BakeConfig(out=tmp_path / "frames", flour=tmp_path), "frames")


def make(config, kind="vqvae", parents=None, **figures):
    return Draft.begin(config, kind, parents).finish(figures)


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def two_lines_at_most(error) -> str:
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)


def test_a_new_directory_becomes_a_whole_artefact(config, frames):
    draft = Draft.begin(config, "vqvae", {"frames": frames})
    assert not draft.resumed
    assert set(files(config.out)) == {"run.json"}
    made = draft.finish({"psnr": 25.5, "codes": 7, "note": "x"})
    again = open_artefact(config.out, "vqvae")
    assert again == made
    assert again.manifest.figures == {"psnr": 25.5, "codes": 7, "note": "x"}
    assert again.manifest.parents["frames"].identity == frames.identity
    assert again.identity == read_run(config.out).identity
    assert again.manifest.config["network"]["dropout"] == 0.25
    assert again.manifest.versions["lapa-ray"]


def test_figures_that_could_not_be_measured_are_null(config):
    made = make(config, a=float("nan"), b=np.float32("inf"), c=np.float32(0.5), d=np.int64(3), e=None)
    assert made.manifest.figures == {"a": None, "b": None, "c": 0.5, "d": 3, "e": None}
    assert json.loads((config.out / "manifest.json").read_text())["figures"]["a"] is None


def test_an_empty_directory_is_free(config):
    config.out.mkdir(parents=True)
    make(config)


def test_leftovers_of_a_killed_write_do_not_stand_in_the_way(config):
    config.out.mkdir(parents=True)
    (config.out / ".tmp-1-run.json").write_text("{")
    make(config)


def test_an_unfinished_run_is_resumed_only_on_request(config):
    Draft.begin(config, "vqvae")
    before = files(config.out)
    with pytest.raises(LapaError, match="unfinished vqvae run of this config") as error:
        Draft.begin(config, "vqvae")
    assert "--resume" in two_lines_at_most(error)
    draft = Draft.begin(config.model_copy(update={"resume": True}), "vqvae")
    assert draft.resumed
    assert files(config.out) == before


def test_resuming_keeps_the_first_run_file(config):
    first = Draft.begin(config, "vqvae").run
    longer = config.model_copy(update={"resume": True, "checkpoint_period_s": 1.0})
    assert Draft.begin(longer, "vqvae").finish({}).identity == first.identity
    assert read_run(config.out).started == first.started


def test_the_time_of_all_starts_is_told(config, monkeypatch):
    now = 100.0
    monkeypatch.setattr(artefact_module.time, "monotonic", lambda: now)
    draft = Draft.begin(config, "vqvae")
    now = 130.0
    draft.pause()
    now = 500.0
    again = Draft.begin(config.model_copy(update={"resume": True}), "vqvae")
    now = 512.0
    assert again.finish({}).manifest.seconds == 42.0
    assert set(files(config.out)) == {"run.json", "manifest.json"}


def test_a_whole_artefact_is_not_made_twice(config):
    made = make(config, psnr=1.0)
    before = files(config.out)
    for resume in (False, True):
        with pytest.raises(AlreadyWholeError) as error:
            Draft.begin(config.model_copy(update={"resume": resume}), "vqvae")
        assert error.value.artefact == made
    assert files(config.out) == before


@pytest.mark.parametrize("whole", [False, True])
def test_another_config_is_refused_and_named(config, whole):
    draft = Draft.begin(config, "vqvae")
    if whole:
        draft.finish({})
    before = files(config.out)
    other = config.model_copy(update={"num_steps": 7, "network": NetworkConfig(widths=(8,)), "resume": True})
    with pytest.raises(IdentityMismatchError) as error:
        Draft.begin(other, "vqvae")
    message = two_lines_at_most(error)
    assert "num_steps: 100 there, 7 here" in message
    assert "network.widths: [32, 64] there, [8] here" in message
    assert files(config.out) == before


@pytest.mark.parametrize("whole", [False, True])
def test_other_parents_are_refused_and_named(config, frames, tmp_path, whole):
    draft = Draft.begin(config, "vqvae", {"frames": frames})
    if whole:
        draft.finish({})
    others = make(BakeConfig(out=tmp_path / "others", flour=tmp_path, seed=1), "frames")
    with pytest.raises(IdentityMismatchError, match="another frames"):
        Draft.begin(config.model_copy(update={"resume": True}), "vqvae", {"frames": others})


def test_another_kind_is_refused_and_named(config):
    Draft.begin(config, "vqvae")
    with pytest.raises(IdentityMismatchError, match="kind vqvae, not codes"):
        Draft.begin(config, "codes")


def test_the_same_parent_elsewhere_is_the_same_parent(config, frames, tmp_path):
    Draft.begin(config, "vqvae", {"frames": frames})
    moved = tmp_path / "moved"
    frames.path.rename(moved)
    resumed = Draft.begin(config.model_copy(update={"resume": True}), "vqvae", {"frames": open_artefact(moved)})
    assert resumed.resumed


def test_an_unwritable_kind_of_place_is_refused(config):
    config.out.write_text("a file")
    with pytest.raises(LapaError, match="is a file"):
        Draft.begin(config, "vqvae")
    below = config.model_copy(update={"out": config.out / "deeper"})
    with pytest.raises(LapaError, match="cannot be created"):
        Draft.begin(below, "vqvae")
    assert config.out.read_text() == "a file"


def test_a_directory_of_something_else_is_left_alone(config):
    config.out.mkdir(parents=True)
    (config.out / "thesis.txt").write_text("precious")
    for resume in (False, True):
        with pytest.raises(LapaError, match="holds something else"):
            Draft.begin(config.model_copy(update={"resume": resume}), "vqvae")
    assert files(config.out) == {"thesis.txt": b"precious"}


def test_nothing_to_resume_is_said(config):
    with pytest.raises(LapaError, match="there is no unfinished run"):
        Draft.begin(config.model_copy(update={"resume": True}), "vqvae")
    assert not config.out.exists()


def test_opening_says_what_is_wrong(config, tmp_path):
    with pytest.raises(LapaError, match=r"no such directory; a VQ-VAE \(made by train-vqvae\) is expected"):
        open_artefact(config.out, "vqvae")
    with pytest.raises(LapaError, match=r"holds no artefact \(manifest.json is missing\)"):
        open_artefact(tmp_path, "vqvae")
    draft = Draft.begin(config, "vqvae")
    with pytest.raises(LapaError, match="this vqvae run has not finished"):
        open_artefact(config.out, "vqvae")
    draft.finish({})
    with pytest.raises(LapaError, match=r"holds a vqvae artefact; codes \(made by extract\) is expected"):
        open_artefact(config.out, "codes")


@pytest.mark.parametrize("name", ["run.json", "manifest.json"])
@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"kind": "vqvae"}', '{"kind": "pie", "schema_version": 1}', "\xff"]
)
def test_a_damaged_file_is_named_and_kept(config, name, content):
    draft = Draft.begin(config, "vqvae")
    if name == "manifest.json":
        draft.finish({})
    (config.out / name).write_text(content, encoding="latin-1")
    before = files(config.out)
    with pytest.raises(LapaError, match=name if content != '{"kind": "vqvae"}' else "schema version None") as error:
        open_artefact(config.out)
    two_lines_at_most(error)
    with pytest.raises(LapaError):
        Draft.begin(config.model_copy(update={"resume": True}), "vqvae")
    assert files(config.out) == before


@pytest.mark.parametrize("name", ["run.json", "manifest.json"])
def test_a_newer_layout_is_refused_with_the_version_that_made_it(config, name):
    draft = Draft.begin(config, "vqvae")
    if name == "manifest.json":
        draft.finish({})
    content = json.loads((config.out / name).read_text())
    content |= {"schema_version": 3, "colour": "new in version 3", "versions": {"lapa-ray": "9.1"}}
    (config.out / name).write_text(json.dumps(content))
    with pytest.raises(LapaError, match=r"vqvae schema version 3, but this lapa_ray reads version 2; .*lapa_ray 9\.1"):
        open_artefact(config.out)


def test_a_file_is_part_of_the_identity_by_what_is_in_it(config, tmp_path):
    weights, moved, others = (tmp_path / name for name in ("weights", "moved", "others"))
    for path, content in ((weights, b"1"), (moved, b"1"), (others, b"2")):
        path.write_bytes(content)
    draft = Draft.begin(config, "vqvae", files={"loss.vgg_weights": weights})
    draft.pause()
    again = config.model_copy(update={"resume": True})
    with pytest.raises(IdentityMismatchError, match=r"loss\.vgg_weights \(SHA-256\): 6b86b273.* there, d4735e3a"):
        Draft.begin(again, "vqvae", files={"loss.vgg_weights": others})
    resumed = Draft.begin(again, "vqvae", files={"loss.vgg_weights": moved})
    assert resumed.run.identity == draft.run.identity
    resumed.pause()


def test_mixed_up_parents_are_refused(config, frames, tmp_path):
    child = make(config, "codes", {"frames": frames})
    check_same_parent(child, "frames", frames)
    other = make(BakeConfig(out=tmp_path / "other", flour=tmp_path, seed=3), "frames")
    with pytest.raises(LapaError, match="was not made with the frames in") as error:
        check_same_parent(child, "frames", other)
    assert str(frames.path) in two_lines_at_most(error)
    with pytest.raises(LapaError, match="it names no vqvae"):
        check_same_parent(child, "vqvae", other)


def refuse(config, *payload: str) -> None:
    """A stage that begins, writes `payload` and then finds its input bad."""
    with pytest.raises(LapaError, match="no GPU"):
        _refuse(config, payload)


def _refuse(config, payload):
    with withdrawn_if_barren(config.out):
        draft = Draft.begin(config, "vqvae")
        (draft.path / "metrics.jsonl").touch()
        for name in payload:
            (draft.path / name).write_text("x")
        raise LapaError("no GPU")


def test_a_run_that_is_refused_before_it_made_anything_is_taken_back(config):
    refuse(config)
    assert not config.out.exists()
    config.out.mkdir()
    refuse(config)
    assert list(config.out.iterdir()) == []


@pytest.mark.parametrize("content", [{}, {"last.pt": "x"}])
def test_a_ctrl_c_takes_back_what_made_nothing_too(config, content):
    with pytest.raises(KeyboardInterrupt), withdrawn_if_barren(config.out):
        raise KeyboardInterrupt(write(Draft.begin(config, "vqvae").path, content))
    assert config.out.exists() == bool(content)


def test_bookkeeping_and_half_written_files_are_nothing_made(config):
    inner = config.model_copy(update={"out": config.out / "gameplay"})

    def play():
        Draft.begin(config, "agent")
        write(Draft.begin(inner, "frames").path, {".tmp-block-000.parquet": "PAR1"})
        write(config.out, {".episode_blocks.json": "{}", ".ray_train/session/log.txt": "x"})
        raise LapaError("no memory")

    with pytest.raises(LapaError, match="no memory"), withdrawn_if_barren(config.out):
        play()
    assert not config.out.exists()


def write(folder: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_a_run_that_made_something_or_stood_before_is_kept(config):
    refuse(config, "last.pt")
    assert set(files(config.out)) == {"run.json", "metrics.jsonl", "last.pt"}
    (config.out / "last.pt").unlink()
    refuse(config.model_copy(update={"resume": True}))
    assert set(files(config.out)) == {"run.json", "metrics.jsonl"}


def test_a_folder_of_runs_is_not_taken_for_a_run(config):
    Draft.begin(config.model_copy(update={"out": config.out / "inner"}), "vqvae")
    with pytest.raises(LapaError, match="holds something else"), withdrawn_if_barren(config.out):
        Draft.begin(config, "vqvae")
    assert set(files(config.out)) == {"inner/run.json"}


def test_another_error_leaves_the_run_to_be_looked_at(config):
    with pytest.raises(ZeroDivisionError), withdrawn_if_barren(config.out):
        raise ZeroDivisionError(Draft.begin(config, "vqvae"))
    assert set(files(config.out)) == {"run.json"}


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 66 MB, of which Draft wants 64 MB free to begin."""
    with mounted_tmpfs(tmp_path / "disk", "size=66m") as disk:
        yield disk


def test_a_full_disk_is_refused_before_anything_is_written(config, small_disk):
    (small_disk / "ballast").write_bytes(bytes(4 * 2**20))
    full = config.model_copy(update={"out": small_disk / "a" / "b"})
    with pytest.raises(LapaError, match="no disk space"):
        Draft.begin(full, "vqvae")
    assert [entry.name for entry in small_disk.iterdir()] == ["ballast"]


def test_a_disk_that_fills_up_harms_nothing_and_can_be_resumed(config, small_disk):
    config = config.model_copy(update={"out": small_disk / "out"})
    draft = Draft.begin(config, "vqvae")
    before = files(config.out)
    fill(small_disk / "ballast")
    with pytest.raises(OSError, match="No space left"):
        draft.finish({"psnr": 1.0})
    assert files(config.out) == before
    (small_disk / "ballast").unlink()
    assert Draft.begin(config.model_copy(update={"resume": True}), "vqvae").finish({"psnr": 1.0}).identity


def test_a_read_only_directory_is_refused(config, tmp_path):
    with (
        mounted_tmpfs(tmp_path / "disk", "ro") as disk,
        pytest.raises(LapaError, match=r"cannot be created \(Read-only file system\)"),
    ):
        Draft.begin(config.model_copy(update={"out": disk / "out"}), "vqvae")


def test_leftovers_of_killed_workers_go_with_a_resume_and_before_the_end(tmp_path):
    config = BakeConfig(out=tmp_path / "cake", flour=tmp_path)

    def leave() -> None:
        (config.out / "part").mkdir(exist_ok=True)
        (config.out / "part" / ".tmp-0a1b-block").write_text("half")
        (config.out / ".tmp-episode").mkdir()
        (config.out / ".tmp-episode" / "0.png").write_text("half")

    Draft.begin(config, "frames")
    leave()
    draft = Draft.begin(config.model_copy(update={"resume": True}), "frames")
    assert sorted(path.name for path in config.out.rglob("*")) == ["part", "run.json"]
    leave()
    draft.finish({})
    assert sorted(path.name for path in config.out.rglob("*")) == ["manifest.json", "part", "run.json"]
