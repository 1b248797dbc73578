"""File descriptors that stand for files of KVM: real ones, which the operating system duplicates, passes on and closes.

A descriptor is a memfd, so poll, mmap, dup, fork and SCM_RIGHTS work as on any file. Its inode tells which file it
stands for, its mode what kind that is (csrc/shim/status.c reads it). A lock on the open file lives exactly as long as
the program has a descriptor of it, whatever it does and however it ends: when the lock is free, the file is closed.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading

from .file import File

Identity = tuple[int, ...]  # device and inode
MARK = stat.S_ISGID | stat.S_ISVTX  # of the mode of a file of KVM


class Descriptors:
    """The files of KVM that programs have open."""

    def __init__(self) -> None:
        self._files: dict[Identity, File] = {}
        self._lock = threading.Lock()

    def install(self, file: File) -> int:
        """A new descriptor of the file, the caller's to give away or to close."""
        self.sweep()
        theirs = os.memfd_create(file.link, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(theirs, file.mapped_bytes)
            fcntl.fcntl(theirs, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            file.page = os.open(f"/proc/self/fd/{theirs}", os.O_RDWR | os.O_CLOEXEC)
            os.fchmod(theirs, MARK | file.kind)
            fcntl.flock(theirs, fcntl.LOCK_EX)
        except OSError:
            os.close(theirs)
            raise
        with self._lock:
            self._files[identity(theirs)] = file
        return theirs

    def find(self, which: Identity) -> File | None:
        """The file with this identity, which stays open while an ioctl is at work on it. None for none of KVM's."""
        return self._files.get(which)

    def sweep(self) -> list[str]:
        """Files that no program has open any more are gone: their names."""
        with self._lock:
            closed = [identity for identity, file in self._files.items() if not file.is_at_work and _is_free(file.page)]
            files = [self._files.pop(identity) for identity in closed]
        for file in files:
            file.close()
        return [file.name for file in files]

    def close(self) -> None:
        """Descriptors that programs have stand for nothing any more."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()


def identity(descriptor: int) -> Identity:
    """Which file the descriptor is of. EBADF."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _is_free(page: int) -> bool:
    try:
        fcntl.flock(page, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
