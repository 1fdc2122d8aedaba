"""A drop folder: ``in/`` is what departments write, ``done/`` and ``rejected/`` is what became of it.

A file stays in ``in/`` until everything else about it is on disk and on the log; moving it is the last step. Whatever
dies before that leaves a file that is taken again, whole, with the same identities.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.runtime.errors import UnavailableError

IN, DONE, REJECTED = "in", "done", "rejected"
REASONS = ".rejects.csv"
UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp")
"""What copying programs call a file that is still on its way."""


class FolderUnavailableError(UnavailableError):
    """The drop folder can't be used."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """How a file looked: it is the same file, unchanged, while this stays the same."""

    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file in ``in/``."""

    path: Path
    stamp: Stamp


class DropFolder:
    """The folder of one department."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.arriving = root / IN

    def waiting(self) -> list[Waiting]:
        """Return the files in ``in/``, the oldest first: what is hidden, no plain file or under way is not among them.

        Raises FolderUnavailableError.
        """
        with _wrapped():
            found = [Waiting(Path(entry.path), _stamp(entry.stat(follow_symlinks=False))) for entry in self._entries()]
        return sorted(found, key=lambda waiting: (waiting.stamp.modified_ns, waiting.path.name))

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self.arriving) as entries:
            for entry in entries:
                hidden = entry.name.startswith((".", "~$")) or entry.name.endswith(UNFINISHED)
                if not hidden and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                    yield entry

    def unchanged(self, waiting: Waiting) -> bool:
        """Tell whether a file is still there as it was."""
        try:
            return _stamp(waiting.path.stat(follow_symlinks=False)) == waiting.stamp
        except FileNotFoundError:
            return False

    def place(self, outcome: str, name: str, now: datetime) -> Path:
        """Return where a file goes, ``done`` or ``rejected``; nothing that is there already is overwritten."""
        target = self.root / outcome / name
        if target.exists():
            target = target.with_name(f"{target.stem}~{now:%Y%m%dT%H%M%S%f}{target.suffix}")
        return target

    def draft(self, name: str) -> Path:
        """Return where the reasons are written while a file is worked on: hidden, and written anew each time."""
        return self.root / REJECTED / f".{name}{REASONS}"

    def move(self, waiting: Waiting, target: Path) -> None:
        """Take a file out of ``in/`` for good, the reasons first: the last step."""
        with _wrapped():
            draft = self.draft(waiting.path.name)
            if draft.exists():
                draft.rename(target.with_name(target.name + REASONS))
            waiting.path.rename(target)
            for folder in (target.parent, self.arriving):
                _sync(folder)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Give whether this process is the one that works on the folder; the kernel takes the lock from the dead."""
        with _wrapped():
            for name in (IN, DONE, REJECTED):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            file = (self.root / ".lock").open("a")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def being_written(path: Path) -> bool:
    """Tell whether a process of this machine has a file open for writing, as far as the kernel lets us know.

    A read lease is granted only where nobody writes. On a network share or for another's file it can't be asked: there
    a file counts as complete when it has not changed for a while. The caller must not die of SIGIO: a writer that
    comes in the meantime sends it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True  # taken away meanwhile
    except OSError:
        return False  # the import will say why it can't be read
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno in {errno.EAGAIN, errno.EBUSY}
    else:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(descriptor)


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderUnavailableError(f"投放目录 (drop folder): {error}") from error
