"""Keys and certificates in a folder: written whole or not at all, a key with its certificate as one file.

One file per pair, replaced by rename: a crash at any step leaves the pair before. Files of pairs have mode 0600 and
the folder 0700; whatever others may read is refused, as a key that was readable once is nobody's secret.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ovnk_core.errors import OvnkError

MAX_BYTES = 1 << 20
_UNFINISHED = "unfinished"
"""The one name of what is being written: what a crash leaves there, maybe half a key, is gone with the next write."""


class KeepingError(OvnkError):
    """A file or folder cannot be used; the message says which and why."""


class Folder:
    """``AUTHORITY-*.pem`` and ``NODE.crt`` in one place. Raises KeepingError."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def open(self, *, is_made: bool = True) -> None:
        """Refuse one that others may enter; one that is missing is made if ``is_made``, else refused, too."""
        try:
            if is_made:
                missing = [each for each in (self.path, *self.path.parents) if not each.exists()]
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                for each in missing:
                    _sync(each.parent)
            found = self.path.stat()
        except FileExistsError:
            raise KeepingError(f"{self.path}: is no folder") from None
        except OSError as error:
            raise KeepingError(f"{self.path}: {error.strerror}") from error
        _private(self.path, found, "0700")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone among processes that use the folder: two must not make an authority each."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise KeepingError(f"{self.path}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def names(self, suffix: str) -> list[str]:
        """Files that end in ``suffix``, sorted; what a crash left half-written is none of them."""
        try:
            return sorted(each.name for each in self.path.iterdir() if each.name.endswith(suffix))
        except OSError as error:
            raise KeepingError(f"{self.path}: {error.strerror}") from error

    def read(self, name: str, *, is_secret: bool) -> bytes:
        """A file, no symbolic link. A secret that others may read is refused."""
        path = self.path / name
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                if is_secret:
                    _private(path, os.fstat(file.fileno()), "0600")
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            is_link = error.errno == errno.ELOOP
            why = "is a symbolic link, which may lead out of the folder" if is_link else error.strerror
            raise KeepingError(f"{path}: {why}") from error
        if len(content) > MAX_BYTES:
            raise KeepingError(f"{path}: is larger than {MAX_BYTES >> 20} MiB")
        return content

    def write(self, name: str, content: bytes, *, mode: int = 0o600) -> None:
        """Replace a file by one with ``content``, durably, or leave it as it is. For who has it ``locked``."""
        path, fresh = self.path / name, self.path / _UNFINISHED
        try:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            _sync(self.path)
        except OSError as error:
            raise KeepingError(f"{path}: {error.strerror}") from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _private(path: Path, found: os.stat_result, mode: str) -> None:
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise KeepingError(f"{path}: others may use it (mode {stat.S_IMODE(found.st_mode):04o}); chmod {mode}")
    if found.st_uid != os.geteuid():
        raise KeepingError(f"{path}: belongs to another user")
