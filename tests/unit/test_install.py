"""Set-up of .venv: one line says why it failed, and the next try begins anew."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DEBIAN = """The virtual environment was not created successfully because ensurepip is not
available.  On Debian/Ubuntu systems, you need to install the python3-venv
package using the following command.

    apt install python3.11-venv

You may need to use sudo with that command.  After installing the python3-venv
package, recreate your virtual environment.

Failing command: /tmp/x/.venv/bin/python3

"""

PYTHON = """#!/bin/sh
# A Python that makes half an environment where the real one would make a whole one.
case "$2" in
  venv) mkdir -p "$3/bin"; cp "$REAL" "$3/bin/python"; cat "$SAYS"; exit 1 ;;
  *) exec "$REAL" "$@" ;;
esac
"""


@pytest.fixture
def install(tmp_path):
    """`.ci/install` with a Python whose venv fails and says `says`; the lines of its error output."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def run(says: str, python: str = str(tmp_path / "python")) -> str:
        (tmp_path / "says").write_text(says)
        environment = os.environ | {
            "PYTHON": python,
            "VENV": str(tmp_path / ".venv"),
            "REAL": sys.executable,
            "SAYS": str(tmp_path / "says"),
        }
        done = subprocess.run(["sh", ".ci/install"], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 1
        return done.stderr

    return run


def test_a_python_without_venv_is_told_with_the_way_out(install, tmp_path):
    says = "install: failed: this Python cannot make an environment; as root: apt install python3.11-venv\n"
    assert install(DEBIAN) == says
    assert not (tmp_path / ".venv").exists()


def test_the_last_line_that_says_something_is_told(install):
    assert install("Error: [Errno 28] No space left on device\n\n  \n") == (
        "install: failed: Error: [Errno 28] No space left on device\n"
    )
    assert install("\n") == "install: failed: no reason was given\n"


def test_half_an_environment_is_made_anew(install, tmp_path):
    """As earlier versions left it behind: a Python without pip."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/usr/bin/false")
    (tmp_path / ".venv" / "leftover").touch()
    assert "apt install python3.11-venv" in install(DEBIAN)
    assert not (tmp_path / ".venv").exists()


def test_a_python_that_is_missing_or_too_old_is_named(install, tmp_path):
    assert "none is missing; Python 3.11 or newer is needed" in install("", "none")
