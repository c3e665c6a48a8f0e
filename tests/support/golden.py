"""Golden files: what a person read and found right. LAPA_UPDATE_GOLDEN=1 writes them anew: read the diff."""

import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "golden"


def check_golden(name: str, text: str) -> None:
    path = FOLDER / name
    if os.environ.get("LAPA_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing; LAPA_UPDATE_GOLDEN=1 writes it"
    assert text == path.read_text(encoding="utf-8"), "LAPA_UPDATE_GOLDEN=1 accepts the change, after a look at the diff"
