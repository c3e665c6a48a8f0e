"""Locations: folders and files on any filesystem that pyarrow or fsspec knows, by URI, for reading.

A `Location` answers what readers ask of a `pathlib.Path`, under the same names, so they take either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
from pyarrow import fs

from lapa_ray.core.errors import LapaError


@dataclass(frozen=True)
class Location:
    """A folder or file: `path` on `filesystem`; `uri` is how the user calls it."""

    filesystem: fs.FileSystem
    path: str
    uri: str

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> Location:
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}", f"{self.uri.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def parent(self) -> Location:
        """The folder that it lies in."""
        return Location(self.filesystem, str(PurePosixPath(self.path).parent), self.uri.rstrip("/").rpartition("/")[0])

    def is_dir(self) -> bool:
        """Whether it is a folder (on an object store: whether anything lies below it)."""
        return self._info().type == fs.FileType.Directory

    def exists(self) -> bool:
        """Whether anything is there."""
        return self._info().type != fs.FileType.NotFound

    def glob(self, pattern: str) -> list[Location]:
        """Files right below it whose names match."""
        with _told(self.uri):
            entries = self.filesystem.get_file_info(fs.FileSelector(self.path))
        return [self / entry.base_name for entry in entries if entry.is_file and fnmatch(entry.base_name, pattern)]

    def read_text(self, encoding: str = "utf-8") -> str:
        """Its content."""
        with _told(self.uri), self.filesystem.open_input_stream(self.path) as stream:
            return str(stream.read(), encoding)

    def open(self) -> Any:
        """The file, open for reading at any place (`pyarrow.NativeFile`)."""
        return self.filesystem.open_input_file(self.path)

    def _info(self) -> Any:
        with _told(self.uri):
            return self.filesystem.get_file_info(self.path)


def locate(where: Path | str) -> Path | Location:
    """A local path as `Path`, any other URI as `Location`. Raises `LapaError` where no filesystem takes it."""
    if isinstance(where, Path) or "://" not in where:
        return Path(where)
    with _told(where):
        try:
            filesystem, path = fs.FileSystem.from_uri(where)
        except pa.ArrowInvalid:  # not one of pyarrow's own
            handled, path = fsspec.core.url_to_fs(where)
            filesystem = fs.PyFileSystem(fs.FSSpecHandler(handled))
    return Path(path) if isinstance(filesystem, fs.LocalFileSystem) else Location(filesystem, path, where)


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """What a filesystem says becomes a `LapaError` that names the URI."""
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LapaError(f"{uri}: cannot be read ({reason}); check the URI and your access to it.") from error
