"""Put a fixed file in the place of the one that it was made of, whole or not at all.

What is not finished lies in a folder of its own beside the file. A second process waits for this
one to end, however that comes about, and takes the folder away: not even ``kill -9`` leaves it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inspector.errors import UnreadableError
from inspector.write.save import explained

_WATCH = """
import shutil, sys
sys.stdin.buffer.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class Original:
    """The file that is to be replaced.

    Raises
    ------
    inspector.errors.UnreadableError
        It may not be written, or its folder may not.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.target = Path(os.path.realpath(path))
        with explained(path):
            self._was = self.target.stat()
        if not self._was.st_mode & 0o222 or not os.access(self.target, os.W_OK):
            raise _refused("the file is read-only", path)
        if not os.access(self.target.parent, os.W_OK):
            raise _refused("its folder is read-only", path)

    def replace(self, made: Path, *, backup: bool) -> str:
        """Put `made` in its place; the backup's path, empty where none was asked for.

        Raises
        ------
        inspector.errors.UnreadableError
            The file system refuses, or the file is no longer the one that was read.
        """
        with explained(self.path):
            _copy_status(self._was, made)
            with made.open("rb") as written:
                os.fsync(written.fileno())
            if not _is_same(self._was, self.target.stat()):
                raise _refused("it was changed by somebody else meanwhile", self.path)
            kept = _backed_up(self.target) if backup else None
            try:
                os.replace(made, self.target)
            except BaseException:  # Ctrl-C too: nothing is left of what did not come about
                # Python raises it behind a rename that has come about as well: then the backup is
                # all that there is of the old file.
                if kept is not None and made.exists():
                    kept.unlink(missing_ok=True)
                raise
        if kept is None:
            return ""
        # As the user wrote the path, unless that is a link: the backup lies beside the file.
        beside = Path(self.path).with_name(kept.name)
        return str(beside if beside.exists() and beside.samefile(kept) else kept)


@contextmanager
def workshop(original: Original) -> Iterator[Path]:
    """A folder beside a file for what is not finished, which is gone afterwards, whatever happens.

    Raises
    ------
    inspector.errors.UnreadableError
        The file system refuses.
    """
    target = original.target
    folder = target.with_name(f".{target.name[:64]}.{secrets.token_hex(6)}.part")
    with explained(original.path):
        # The files in it have the rights of new files, and the model may be for few eyes.
        folder.mkdir(mode=0o700)
    try:
        with _watched(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what it held is placed, or the error is told


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    """Have a folder taken away when this process ends, be it killed."""
    watcher = None
    with suppress(OSError):  # no process can be started: then Python's own cleaning has to do
        watcher = subprocess.Popen(  # noqa: S603  # this Python, with a line of our own
            [sys.executable, "-I", "-S", "-c", _WATCH, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C and a signal to the whole group are not meant for it.
            start_new_session=True,
        )
    try:
        yield
    finally:
        if watcher is not None:
            watcher.kill()
            watcher.communicate()


def _backed_up(target: Path) -> Path:
    """Keep a file under a name of its own, and never in the place of another backup."""
    number = 0
    while True:
        name = f"{target.name}.bak" if not number else f"{target.name}.bak.{number}"
        kept = target.with_name(name)
        number += 1
        try:
            # The same file by a second name: nothing of it can get lost on the way.
            os.link(target, kept)
        except FileExistsError:  # an older backup: the next number
            continue
        except OSError:  # a file system without such links
            try:
                copy = kept.open("xb")
            except FileExistsError:  # likewise
                continue
            try:
                with copy, target.open("rb") as source:
                    shutil.copyfileobj(source, copy)
                    copy.flush()
                    os.fsync(copy.fileno())
                shutil.copystat(target, kept)
            except BaseException:  # Ctrl-C too: no half a backup
                kept.unlink(missing_ok=True)
                raise
        return kept


def _copy_status(was: os.stat_result, made: Path) -> None:
    """Give a file the owner and the permissions of another."""
    own = made.stat()
    if (own.st_uid, own.st_gid) != (was.st_uid, was.st_gid) and hasattr(os, "chown"):
        # Only root may give files away: it is then the user's own, and the group's where it can be.
        for owner in (was.st_uid, -1):
            with suppress(OSError):  # not allowed: the next one asks for less
                os.chown(made, owner, was.st_gid)
                break
    made.chmod(stat.S_IMODE(was.st_mode))


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_ino, one.st_size, one.st_mtime_ns) == (
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )


def _refused(what: str, path: str) -> UnreadableError:
    return UnreadableError(what, where=path, hint="nothing was changed")


def write_part(data: bytes, part: Path, where: str) -> None:
    """Write what is not finished to a file that is not there yet.

    Raises
    ------
    inspector.errors.UnreadableError
        The file system refuses.
    """
    with explained(where), part.open("xb") as file:
        file.write(data)
