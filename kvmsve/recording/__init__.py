"""Recordings: the file format, reading and writing it, replay, and recording what a program does.

What an operation is, and how it is done, is in ops.
"""

from .file import Recording, RecordingError
from .header import Header
from .recorder import record
from .replay import Replay, misuse_at, played, shipped_recordings

__all__ = [
    "Header",
    "Recording",
    "RecordingError",
    "Replay",
    "misuse_at",
    "played",
    "record",
    "shipped_recordings",
]
