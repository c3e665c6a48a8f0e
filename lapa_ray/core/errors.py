"""Errors that are the user's to mend: each message names the field or file and the way out, in one or two lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lapa_ray.core.artefact import Artefact


class LapaError(Exception):
    """Bad input. The command line prints the message alone and exits with code 2."""


class NoRoomError(LapaError):
    """A disk filled up. What was begun stays as it is, to be resumed when there is room."""


class DivergedError(LapaError):
    """What is learnt is no number any more."""


class IdentityMismatchError(LapaError):
    """The output directory holds a run of another config or other parents, so it cannot be resumed."""


class AlreadyWholeError(LapaError):
    """The output directory already holds the finished artefact of this very config; nothing is left to do."""

    def __init__(self, artefact: Artefact) -> None:
        super().__init__(f"{artefact.path} already holds this {artefact.manifest.kind}, whole; nothing is left to do.")
        self.artefact = artefact

    def __reduce__(self) -> tuple[type[AlreadyWholeError], tuple[Artefact]]:
        return type(self), (self.artefact,)


class StoppedError(Exception):
    """The user stopped a stage, which kept what it had. The command line prints the message and exits with code 130."""
