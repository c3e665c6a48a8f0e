"""Any config survives the way to YAML and back, and its identity is made of what decides the result, alone."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapa_ray.core.command_line import parse_config
from lapa_ray.core.config import RayConfig, WandbConfig, identity_of
from tests.support.configs import BakeConfig, NetworkConfig

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
PATHS = NAMES.map(lambda name: Path("somewhere") / name.replace("/", "_"))
UNIT = st.floats(0, 1)
NETWORKS = st.builds(
    NetworkConfig,
    learning_rate=st.floats(0, 1, exclude_min=True),
    widths=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=4).map(tuple),
    activation=st.sampled_from(["relu", "gelu"]),
    dropout=UNIT,
)
DECISIVE = {
    "seed": st.integers(0, 2**31 - 1),
    "num_steps": st.integers(1, 2**40),
    "max_norm": st.none() | st.floats(0, 1e30, exclude_min=True),
    "low": st.integers(-(2**40), 0),
    "high": st.integers(0, 2**40),
    "use_salt": st.booleans(),
    "network": NETWORKS,
}
INDIFFERENT = {
    "out": PATHS,
    "flour": PATHS,
    "extra": st.none() | PATHS,
    "resume": st.booleans(),
    "checkpoint_period_s": st.floats(0, 1e30, exclude_min=True),
    "wandb": st.builds(WandbConfig, mode=st.sampled_from(["auto", "offline"]), project=NAMES, name=st.just("") | NAMES),
    "ray": st.builds(RayConfig, num_cpus=st.none() | st.integers(1, 99), object_store_mb=st.integers(80, 9999)),
}
CONFIGS = st.builds(BakeConfig, **DECISIVE, **INDIFFERENT, policy=st.just("random") | PATHS)


def as_yaml(config: BakeConfig) -> str:
    """The config as a person might write it: JSON is YAML."""
    return json.dumps(config.model_dump(mode="json"), ensure_ascii=False)


def printed(arguments: list[str]) -> str:
    text = io.StringIO()
    with redirect_stdout(text), pytest.raises(SystemExit):
        parse_config(BakeConfig, [*arguments, "--print_config"])
    return text.getvalue()


@settings(max_examples=40, deadline=None)
@given(config=CONFIGS)
def test_a_config_survives_print_config_and_the_file(tmp_path_factory, config):
    folder = tmp_path_factory.mktemp("config")
    (folder / "given.yaml").write_text(as_yaml(config), encoding="utf-8")
    (folder / "printed.yaml").write_text(printed(["--config", str(folder / "given.yaml")]), encoding="utf-8")
    assert parse_config(BakeConfig, ["--config", str(folder / "given.yaml")]) == config
    assert parse_config(BakeConfig, ["--config", str(folder / "printed.yaml")]) == config


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, other=CONFIGS)
def test_the_identity_is_what_decides_the_result(config, other):
    same = config.model_copy(update={name: getattr(other, name) for name in INDIFFERENT})
    assert identity_of(same) == identity_of(config)
    for name in DECISIVE:
        changed = config.model_copy(update={name: getattr(other, name)})
        assert (identity_of(changed) == identity_of(config)) == (getattr(other, name) == getattr(config, name))


def test_a_word_in_place_of_a_path_is_part_of_the_identity():
    config = BakeConfig(out="o", flour="f")
    assert identity_of(config)["policy"] == "random"
    assert "policy" not in identity_of(config.model_copy(update={"policy": Path("agent")}))
    assert set(identity_of(config)) == {*DECISIVE, "policy"}
