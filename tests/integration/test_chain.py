"""End to end: a micro chain through the command line, on one Ray cluster, with a kill and a Ctrl-C on the way."""

import json

import cv2
import pytest

from lapa_ray import cli
from lapa_ray.core.artefact import open_artefact
from lapa_ray.core.metric_log import read_metrics
from lapa_ray.stages.demo import CHAIN

ARTEFACTS = [(artefact, reads) for _, artefact, reads in CHAIN]


def test_a_killed_stage_goes_on_where_it_was(chain):
    assert chain.ended["train-dqn killed"].code == -9
    assert chain.ended["train-dqn unasked"].code == 2
    assert "add --resume to continue it" in chain.ended["train-dqn unasked"].err
    resumed = chain.ended["train-dqn"]
    assert resumed.code == 0, resumed.err
    saved = chain.seen["checkpoint of the killed train-dqn"]
    rows = read_metrics(chain.folder / "agent" / "metrics.jsonl")
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    again = [row for row in rows if row["step"] > saved["num_steps"]]
    assert 0 < saved["num_updates"] <= again[0]["num_updates"] <= again[-1]["num_updates"]
    assert open_artefact(chain.folder / "agent", "agent").manifest.figures["num_steps"] >= 600


def test_ctrl_c_ends_a_stage_with_130_and_tells_how_to_resume(chain):
    stopped = chain.ended["train-vqvae stopped"]
    assert stopped.code == 130
    last = stopped.err.splitlines()[-1]
    assert last.startswith("lapa-ray train-vqvae: stopped")
    assert "--resume" in last


def test_the_demo_goes_on_with_what_is_there_and_ends_with_the_report(chain):
    demo = chain.ended["demo"]
    assert demo.code == 0, demo.err
    assert f"kept {chain.folder / 'agent'}: whole" in demo.out
    assert f"kept {chain.folder / 'frames'}: whole" in demo.out
    report = chain.folder / "report" / "report.html"
    assert demo.out.splitlines()[-1] == str(report.resolve())
    html = report.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert 'src="http' not in html
    assert 'href="http' not in html.replace('href="https://', "")


def test_no_command_shows_a_warning_or_a_traceback(chain):
    for name, ended in chain.ended.items():
        for word in ("Warning", "warning", "Traceback", "WARN", "core_worker", "DeprecationW"):
            assert word not in ended.err + ended.out, f"{name}: {ended.err}"


def test_the_vqvae_shows_what_it_makes_of_held_out_pairs(chain):
    sheet = cv2.imread(str(chain.folder / "vqvae" / "reconstructions.png"))
    rows, columns = (sheet.shape[0] + 4) // 214, (sheet.shape[1] + 4) // 164
    assert sheet.shape[:2] == (rows * 214 - 4, columns * 164 - 4)
    assert (1 <= rows <= 4, columns) == (True, 4)


@pytest.mark.parametrize(("kind", "reads"), ARTEFACTS)
def test_each_artefact_names_its_parents(chain, kind, reads):
    manifest = open_artefact(chain.folder / kind, kind).manifest
    assert {role: parent.identity for role, parent in manifest.parents.items()} == {
        role: open_artefact(chain.folder / role).identity for role in reads
    }
    assert manifest.figures


@pytest.mark.parametrize("kind", [kind for kind, _ in ARTEFACTS] + ["agent/gameplay"])
def test_inspect_tells_each_artefact(chain, kind, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["inspect", str(chain.folder / kind)]) == 0
    assert open_artefact(chain.folder / kind).identity in capsys.readouterr().out


def test_a_stage_that_is_done_is_not_done_again(chain, capsys):
    before = (chain.folder / "vqvae" / "manifest.json").read_bytes()
    config = json.loads(before)["config"]
    arguments = [
        f"--out={config['out']}",
        f"--frames={config['frames']}",
        "--config=tune_configs/micro/train_vqvae.yaml",
    ]
    assert cli.main(["train-vqvae", *arguments]) == 0
    assert "already holds this vqvae, whole; nothing is left to do." in capsys.readouterr().out
    assert (chain.folder / "vqvae" / "manifest.json").read_bytes() == before
