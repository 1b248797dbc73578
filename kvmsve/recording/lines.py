"""The lines of a file, plain or xz-packed, in bounded memory."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

XZ_MAGIC = b"\xfd7zXZ\0"
XZ_MEMORY_BYTES = 128 << 20  # twice what the strongest preset of xz asks of a reader
CHUNK_BYTES = 1 << 16
LINE_BYTES_MAX = 16 << 20
RUN_BYTES_MAX = 1 << 30  # a run is written as one line, and its guest can take millions of steps
BEGIN_OF_RUN = b'{"op":"run",'


class DamagedFile(Exception):
    """The file cannot be read on from here; the message says why."""


def read_lines(path: Path, opened: Callable[[BufferedReader], None] = lambda file: None) -> Iterator[bytes]:
    """Each line of the file without its newline; `opened` is told the file, whose position says how far it is read.

    DamagedFile where the file cannot be read, a line is too long, or the last one has no newline.
    """
    begun: list[bytes] = []
    size = 0
    try:
        with path.open("rb") as file:
            opened(file)
            for chunk in _chunks(file):
                end, *others = chunk.split(b"\n")
                begun.append(end)
                if others:
                    yield b"".join(begun)
                    yield from others[:-1]
                    begun, size = [others[-1]], 0
                size += len(begun[-1])
                limit = RUN_BYTES_MAX if begun[0].startswith(BEGIN_OF_RUN) else LINE_BYTES_MAX
                if size > limit:
                    raise DamagedFile(f"the line is longer than {limit} bytes")
    except OSError as error:
        raise DamagedFile(error.strerror or str(error)) from None
    except lzma.LZMAError as error:
        raise DamagedFile(f"damaged xz data ({error})") from None
    if size:
        raise DamagedFile("the file ends within the line")


def _chunks(file: BufferedReader) -> Iterator[bytes]:
    if file.peek(len(XZ_MAGIC)).startswith(XZ_MAGIC):
        return _unpacked_chunks(file)
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def _unpacked_chunks(file: BufferedReader) -> Iterator[bytes]:
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
    while not unpacker.eof:
        packed = file.read(CHUNK_BYTES) if unpacker.needs_input else b""
        if not packed and unpacker.needs_input:
            raise DamagedFile("the xz data ends too early")
        yield unpacker.decompress(packed, CHUNK_BYTES)
    if unpacker.unused_data or file.read(1):
        raise DamagedFile("there is more behind the xz data")
