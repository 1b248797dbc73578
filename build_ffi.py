"""Describes kvmsve._ffi to cffi: the C core of csrc/, declared by one header."""

from __future__ import annotations

import re
from glob import glob
from pathlib import Path

from cffi import FFI

HEADER = Path(__file__).parent / "csrc" / "kvmsve.h"
C_FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wconversion"]


def declarations() -> str:
    """The part of the header that cffi reads, the same text the C compiler sees."""
    match = re.search(r"/\* cffi: begin \*/(.*)/\* cffi: end \*/", HEADER.read_text(), re.DOTALL)
    assert match is not None, "csrc/kvmsve.h has lost its cffi markers"
    return match.group(1)


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "kvmsve._ffi",
    '#include "kvmsve.h"',
    sources=sorted(glob("csrc/*.c")),
    include_dirs=["csrc"],
    depends=["build_ffi.py", *sorted(glob("csrc/*.h"))],
    extra_compile_args=C_FLAGS,
    undef_macros=["NDEBUG"],  # which Python's own flags define: it would take the C core's assertions away
)
