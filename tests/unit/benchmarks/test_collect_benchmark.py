"""The collection benchmark: its figures of made rates, and that its players take real steps."""

from contextlib import closing

import pytest

from benchmarks._players import ACT_LOOP, GYMNASIUM, OURS, OURS_RECORDING, PEERS, PLAYERS
from benchmarks.collect import BARS, figures, table

RATES = {name: [100.0, 100.0, 100.0] for name in PLAYERS} | {
    OURS: [300.0, 330.0, 150.0],
    OURS_RECORDING: [150.0, 150.0, 75.0],
    GYMNASIUM: [50.0, 110.0, 50.0],
    ACT_LOOP: [300.0, 300.0, 300.0],
    "AtariVectorEnv": [200.0, 200.0, 100.0],
}


def test_ratios_are_medians_over_rounds():
    assert figures(RATES) == {
        "vs_best_peer": 1.5,  # 1.5, 1.65, 1.5: AtariVectorEnv is the best peer
        "vs_best_peer_recording": 0.75,
        "vs_gymnasium": 3.0,  # 6, 3, 3
        "vs_act_loop": 1.0,
    }
    assert set(figures(RATES)) == set(BARS)


def test_the_table_names_everyone_with_a_version():
    pytest.importorskip("envpool")
    rows = table(RATES, figures(RATES))
    assert [row["what"] for row in rows] == [*PLAYERS, *BARS]
    assert all(any(digit in row["of"] for digit in "0123456789") for row in rows[: len(PLAYERS)])


@pytest.mark.parametrize("name", sorted(set(PLAYERS) - set(PEERS)))
def test_ours_take_steps(name):
    with closing(PLAYERS[name]()) as player:
        player.play(3)
