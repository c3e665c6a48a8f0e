from typing import Annotated

import pytest
from pydantic import Field

from lapa_ray.core.command_line import parse_config, spell_out_flags
from lapa_ray.core.config import Config
from lapa_ray.core.errors import LapaError
from lapa_ray.core.options import closest, options_of
from tests.support.configs import BakeConfig

NEEDED = ["--out", "o", "--flour", "f"]


def parse(*arguments: str) -> BakeConfig:
    return parse_config(BakeConfig, [*NEEDED, *arguments], "lapa-ray bake")


def fault(*arguments: str) -> str:
    with pytest.raises(LapaError) as error:
        parse(*arguments)
    lines = str(error.value).splitlines()
    assert lines[1:] == ["See lapa-ray bake --help."]
    return lines[0]


@pytest.fixture
def yaml(tmp_path):
    def write(text: str) -> str:
        (tmp_path / "bake.yaml").write_text(text)
        return str(tmp_path / "bake.yaml")

    return write


def test_defaults_are_the_models():
    assert parse() == BakeConfig(out="o", flour="f")


def test_dotted_overrides_beat_the_file_that_beats_the_defaults(yaml):
    file = yaml("num_steps: 5\nnetwork: {dropout: 0.5, widths: [8, 8]}\nwandb.mode: offline\n")
    config = parse("--num_steps", "3", "--config", file, "--network.dropout=0.75")
    assert (config.num_steps, config.network.dropout, config.network.widths) == (5, 0.75, (8, 8))
    assert config.network.learning_rate == 2.5e-4
    assert config.wandb.mode == "offline"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}\n", "null\n", "ray: {}\n"])
def test_a_file_without_differences_is_right(yaml, text):
    assert parse("--config", yaml(text)) == parse()
    assert parse(f"--config={yaml(text)}") == parse()


def test_a_group_may_be_given_whole():
    assert parse("--network", "{dropout: 0.5}").network.dropout == 0.5
    assert parse("--network={dropout: 0.5}", "--network.widths=[3]").network.widths == (3,)


def test_an_option_that_begins_like_config_is_another_option():
    with pytest.raises(LapaError, match="--configs: there is no such option"):
        parse("--configs=x")


def test_bare_flags_mean_true():
    assert spell_out_flags(BakeConfig, ["--resume", "--seed", "1"]) == ["--resume", "true", "--seed", "1"]
    assert parse("--resume").resume
    assert not parse("--resume", "false").resume
    assert not parse("--use_salt=false").use_salt


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_step", "3"], "--num_step: there is no such option; did you mean --num_steps?"),
        (["--num-steps=3"], "--num-steps: there is no such option; did you mean --num_steps?"),
        (["--network.droput", "3"], "--network.droput: there is no such option; did you mean --network.dropout?"),
        (["--learning_rate", "3"], "--learning_rate: there is no such option; did you mean --network.learning_rate?"),
        (["--networks.width", "3"], "--networks.width: there is no such option; did you mean --network.widths?"),
        (["--zzz", "3"], "--zzz: there is no such option."),
        (["stray"], "belongs to no option: stray"),
        (["--num_steps"], "--num_steps: needs a value."),
        (["--config"], "--config: needs a value."),
        (["--num_steps", "0"], "--num_steps: should be INT with x > 0; got 0."),
        (["--num_steps", "1.5"], "--num_steps: should be INT with x > 0; got 1.5."),
        (["--seed", "-1"], "--seed: should be INT with 0 ≤ x < 2147483648; got -1."),
        (["--network.dropout", "1.01"], "--network.dropout: should be FLOAT with 0 ≤ x ≤ 1; got 1.01."),
        (["--network.dropout", "nan"], "--network.dropout: should be FLOAT with 0 ≤ x ≤ 1; got nan."),
        (["--network.learning_rate", "fast"], "--network.learning_rate: should be FLOAT with 0 < x ≤ 1; got fast."),
        (["--network.activation", "tan"], "--network.activation: should be {relu,gelu}; got tan."),
        (["--network.widths", "[1,x]"], "--network.widths: should be [INT,...]; got x."),
        (["--max_norm", "-2"], "--max_norm: should be FLOAT or null with x > 0; got -2."),
        (["--resume", "perhaps"], "--resume: should be true|false; got perhaps."),
        (["--low", "11"], "--low: should be at most high (10); got 11"),
        (["--ray", "5"], "--ray: stands for several options; give one of them, such as --ray.num_cpus."),
        (["--ray=[1, 2]"], "--ray: stands for several options; give one of them, such as --ray.num_cpus."),
        (["--ray="], "--ray: stands for several options; give one of them, such as --ray.num_cpus."),
        (["--ray"], "--ray: needs a value."),
        (
            ["--network", "none.yaml"],
            "--network: stands for several options; give one of them, such as --network.learning_rate.",
        ),
        (["--network", "{droput: 7}"], "--network: there is no option network.droput; did you mean network.dropout?"),
        (["--network", "{dropout: 7}"], "--network.dropout: should be FLOAT with 0 ≤ x ≤ 1; got 7."),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(arguments, message):
    assert fault(*arguments) == message


def test_missing_options_are_named():
    with pytest.raises(LapaError, match=r"^missing: --out, --flour\.\nSee lapa-ray --help\.$"):
        parse_config(BakeConfig, [])


def test_a_long_wrong_value_is_shortened():
    assert len(fault("--num_steps", "9" * 500 + "x")) < 130


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_step: 3\n", "there is no option num_step; did you mean num_steps?"),
        ("network:\n  droput: 3\n", "there is no option network.droput; did you mean network.dropout?"),
        ("netwrok:\n  dropout: 0.3\n", "there is no option netwrok; did you mean network?"),
        ("- a\n- b\n", "should hold lines of the form KEY: VALUE."),
        ("just words\n", "should hold lines of the form KEY: VALUE."),
        ("ray: 5\n", "ray should hold lines of the form KEY: VALUE below it; got 5."),
        ("ray: [1, 2]\n", "ray should hold lines of the form KEY: VALUE below it; got [1, 2]."),
        ("ray:\nnum_steps: 5\n", "ray should hold lines of the form KEY: VALUE below it; got nothing."),
        ("network: words\n", "network should hold lines of the form KEY: VALUE below it; got words."),
        ("network: false\n", "network should hold lines of the form KEY: VALUE below it; got false."),
        ("5: 3\n", "there is no option 5."),
    ],
)
def test_a_wrong_key_in_a_file_is_named_with_the_file(yaml, text, message):
    file = yaml(text)
    assert fault("--config", file) == f"--config {file}: {message}"


def test_what_a_nested_model_refuses_is_named_by_its_whole_path(yaml):
    expected = "--network.widths: should name one layer or more"
    assert fault("--network.widths=[]") == fault("--config", yaml("network: {widths: []}\n")) == expected


def test_broken_yaml_is_named_with_its_line(yaml):
    file = yaml("num_steps: 3\nnetwork: [1,\n")
    assert fault("--config", file).startswith(f"--config {file}, line 3, column 1: is not valid YAML (")


def test_a_wrong_value_in_a_file_is_named(yaml):
    file = yaml("network: {dropout: 7}\n")
    assert fault("--config", file) == "--network.dropout: should be FLOAT with 0 ≤ x ≤ 1; got 7."


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    missing = tmp_path / "none.yaml"
    assert fault("--config", str(missing)) == f"--config {missing}: cannot be read (No such file or directory)."
    assert fault("--config", str(tmp_path)) == f"--config {tmp_path}: cannot be read (Is a directory)."
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe\n")
    assert "cannot be read" in fault("--config", str(tmp_path / "latin.yaml"))


def test_help_tells_everything(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        parse_config(BakeConfig, ["--help"], "lapa-ray bake", "Bake.")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in options_of(BakeConfig).values():
        assert f"--{option.path} " in text
    assert "Time between checkpoints, s. (x > 0; default 60.0)" in text
    assert "Share of units dropped. (0 ≤ x ≤ 1; default 0.25)" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_the_closest_option():
    known = ["seed", "network.dropout", "network.widths"]
    assert closest("sede", known) == "seed"
    assert closest("dropout", known) == "network.dropout"
    assert closest("droput", known) == "network.dropout"
    assert closest("quux", known) is None


def test_bounds_of_lengths_are_told():
    class Bowl(Config):
        """A bowl."""

        three: Annotated[tuple[int, ...], Field(min_length=3, max_length=3)] = (1, 2, 3)
        some: list[float] = Field([1.0], min_length=1)
        few: dict[str, int] = Field({}, max_length=2)

    expected = {name: option.expected for name, option in options_of(Bowl).items()}
    assert expected == {
        "three": "[INT,...] with 3 items",
        "some": "[FLOAT,...] with at least 1 items",
        "few": "{TEXT: INT} with at most 2 items",
    }
