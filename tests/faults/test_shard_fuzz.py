"""1,200 mutated shards: each is refused by its name or gives the right data; none crashes, hangs or lies."""

import json
import subprocess
import sys
from pathlib import Path

NUM_CASES = 1200
ROOT = Path(__file__).parents[2]


def test_mutated_shards(tmp_path):
    command = [sys.executable, "-m", "tests.support.shard_fuzz", str(tmp_path), "0", str(NUM_CASES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    last = told[-1] if told else {}
    assert done.returncode == 0, f"case {last.get('case')} ended the process ({done.returncode}): {done.stderr[-2000:]}"
    assert [line for line in told if "wrong" in line] == []
    outcomes = last["outcomes"]
    assert sum(outcomes.values()) == NUM_CASES
    assert outcomes["refused"] > NUM_CASES / 2, "mutations that change nothing test nothing"
