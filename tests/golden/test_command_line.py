"""The help of every command and its resolved default config: a change of either shows as a diff of tests/golden/."""

import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from lapa_ray import cli
from lapa_ray.core.command_line import parse_config
from lapa_ray.core.options import options_of
from tests.support.golden import FOLDER, check_golden
from tests.unit.test_readme_tree import ROOT

MODELS = {name: import_module(f"lapa_ray.stages.{module}").CONFIG for name, (module, _) in cli.STAGES.items()}
COMMANDS = pytest.mark.parametrize("command", list(cli.STAGES))


def printed(command: str, option: str, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, option])
    assert stop.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_overview(capsys):
    assert cli.main([]) == 0
    check_golden("help/lapa-ray.txt", capsys.readouterr().out)


@COMMANDS
def test_help(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    check_golden(f"help/{command}.txt", printed(command, "--help", capsys))


@COMMANDS
def test_default_config(command, capsys):
    check_golden(f"config/{command}.yaml", printed(command, "--print_config", capsys))


@COMMANDS
def test_every_option_is_explained_with_its_unit(command):
    for path, option in options_of(MODELS[command]).items():
        assert len(option.meaning) > 5, f"--{path} has no docstring"
        is_number = option.kind.startswith(("INT", "FLOAT", "[INT", "[FLOAT"))
        assert not is_number or UNIT.search(f"{option.meaning} {path}"), f"--{path}: {option.meaning!r} names no unit"


UNIT = re.compile(
    r"\b(s|ms|MB|GB|bytes|px|pixels|%|Hz|dB|steps?|frames?|updates?|episodes?|epochs?|channels?|codes?|rows?|cores?|CPUs?|GPUs?"
    r"|layers?|units?|dimensions?|transitions?|pairs?|workers?|environments?|actors?|processes|samples?|share|fraction|factor"
    r"|probability|exponent|per|weight|rate|size|width|heads?|batch|seed|depth|number|images|points|score|norm|level|times|ratio"
    r"|bins|passes|copies|shards?|files|threads|seconds|minutes|examples|attempts|bits|discount|coefficient|decay|threshold"
    r"|constant|deviation|resamples|positions?|tokens?|grid|vectors?|horizons?|index|indices|games)\b",
    re.IGNORECASE,
)


def test_no_golden_file_is_left_over():
    help_files = {path.stem for path in (FOLDER / "help").iterdir()}
    configs = {path.stem for path in (FOLDER / "config").iterdir()}
    assert help_files == {*cli.STAGES, "lapa-ray"}
    assert configs == set(cli.STAGES)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tune_configs").rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_the_configs_of_the_repository_hold_differences_alone(path):
    command = NAMED_BY_ARTEFACT.get(path.stem, path.stem.replace("_", "-"))
    model = MODELS[command]
    given = [f"--{name}=somewhere" for name, option in options_of(model).items() if option.default is None]
    defaults = parse_config(model, given).model_dump()
    written = parse_config(model, [*given, "--config", str(path)]).model_dump()
    for key, value in leaves(yaml.safe_load(path.read_text(encoding="utf-8")) or {}):
        assert at(written, key) != at(defaults, key), f"{path.name}: {key}: {value} is the default"


NAMED_BY_ARTEFACT = {
    "sweep_frames": "record",
    "frames": "record",
    "dqn_source": "train-dqn",
    "dqn_strong": "train-dqn",
    "vqvae_100k": "train-vqvae",
    "train_vqvae_palette": "train-vqvae",
    "vqvae_gpu": "train-vqvae",
    **dict.fromkeys(
        (
            *("sweep_latent_size", "sweep_quantizer", "sweep_conditioning", "sweep_batch_size", "sweep_variants"),
            *("sweep_losses", "sweep_codes", "sweep_pairs", "sweep_rgb_losses"),
        ),
        "sweep",
    ),
}
NOT_OPTIONS = {"space", "variants"}
"""Keys whose contents are not options of the command itself."""


def leaves(content: dict, prefix: str = ""):
    for key, value in content.items():
        is_group = isinstance(value, dict) and key not in NOT_OPTIONS
        yield from leaves(value, f"{prefix}{key}.") if is_group else [(f"{prefix}{key}", value)]


def at(content: dict, path: str):
    for part in path.split("."):
        content = content[part]
    return content


def documented_commands() -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [re.sub(r"\\\n\s+", "", page.read_text(encoding="utf-8")) for page in pages]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("    ")]
    found = [re.search(r"lapa-ray (\S+ .*)", line) for line in lines]
    return sorted(
        {re.split(r" [#>]", match[1])[0].strip() for match in found if match and match[1].split()[0] in cli.STAGES}
    )


@pytest.mark.parametrize("line", documented_commands())
def test_commands_in_the_docs_are_right(line, tmp_path, monkeypatch):
    command, *arguments = line.split()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tune_configs").symlink_to(ROOT / "tune_configs")
    for path in written_before(arguments):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}", encoding="utf-8")
    if "--print_config" in arguments:
        arguments.remove("--print_config")
    parse_config(MODELS[command], cli._positional(command, arguments))


def written_before(arguments: list[str]) -> list[Path]:
    """Configs that another command of the docs wrote, such as a sweep's best one."""
    configs = [Path(value) for name, value in pairwise(arguments) if name == "--config"]
    return [path for path in configs if path.is_relative_to("runs")]
