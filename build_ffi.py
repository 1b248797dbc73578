"""Builds kvmsve._ffi: the C core of csrc/ behind cffi, from one header."""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI
from setuptools import Extension
from setuptools.command.build_ext import build_ext

HEADER = Path(__file__).parent / "csrc" / "kvmsve.h"


def declarations() -> str:
    """The part of the header that cffi reads, the same text the C compiler sees."""
    match = re.search(r"/\* cffi: begin \*/(.*)/\* cffi: end \*/", HEADER.read_text(), re.DOTALL)
    assert match is not None, "csrc/kvmsve.h has lost its cffi markers"
    return match.group(1)


class BuildFFI(build_ext):
    """build_ext that writes cffi's glue into the build folder and compiles it with csrc/."""

    def build_extension(self, ext: Extension) -> None:
        ffi = FFI()
        ffi.cdef(declarations())
        ffi.set_source(ext.name, '#include "kvmsve.h"')
        glue = Path(self.build_temp) / "_ffi.c"
        glue.parent.mkdir(parents=True, exist_ok=True)
        ffi.emit_c_code(str(glue))
        ext.sources.append(str(glue))
        super().build_extension(ext)
