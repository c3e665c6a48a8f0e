import json
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks._memory import PeakMemory, tree_bytes
from benchmarks._result import print_result, table
from benchmarks.demo import Phase, report


def test_a_table_aligns_words_left_and_numbers_right():
    rows = [{"stage": "record", "seconds": 1.23456, "n": 12345}, {"stage": "x", "seconds": None, "n": 7}]
    assert table(rows).splitlines() == [
        "| stage  | seconds |      n |",
        "|--------|--------:|-------:|",
        "| record |   1.235 | 12,345 |",
        "| x      |       – |      7 |",
    ]


def test_the_last_line_is_json_with_machine_and_figures(capsys):
    print_result("nap", [{"what": "sleep", "s": 1.5}], {"sleep_seconds": 1.5})
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["benchmark"] == "nap"
    assert result["figures"] == {"sleep_seconds": 1.5}
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["memory_gb"] > 0.5
    assert result["machine"]["ray"] == "2.60.0"


def test_a_figure_that_is_no_number_is_refused(capsys):
    with pytest.raises(ValueError, match="JSON"):
        print_result("nap", [{"what": "sleep"}], {"sleep_seconds": float("nan")})


def test_the_demo_reports_each_stage_and_all(capsys):
    report([Phase("train-dqn", 60.0, 2_000_000_000), Phase("record", 30.0, 3_000_000_000)])
    lines = capsys.readouterr().out.splitlines()
    assert "| train-dqn |      60 |          2,000 |" in lines
    assert json.loads(lines[-1])["figures"] == {
        "train_dqn_seconds": 60.0,
        "train_dqn_peak_mb": 2000.0,
        "record_seconds": 30.0,
        "record_peak_mb": 3000.0,
        "all_seconds": 90.0,
        "all_peak_mb": 3000.0,
    }


GRANDCHILD = "import time; x = bytearray(b'1' * 60_000_000); print('ready', flush=True); time.sleep(60)"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GRANDCHILD!r}])"


def test_memory_counts_what_a_process_started():
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True) as child:
        try:
            with PeakMemory(child.pid) as memory:
                memory.phase = "held"
                assert child.stdout.readline() == "ready\n"
                time.sleep(0.6)
            assert 60_000_000 < memory.peaks["held"] < 200_000_000
        finally:
            for process in (*psutil.Process(child.pid).children(recursive=True), child):
                process.kill()
    assert tree_bytes(child.pid) == 0
