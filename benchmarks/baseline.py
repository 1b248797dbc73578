"""baseline.c, compiled when the benchmarks start, with the flags that kvmsve's own C is compiled with."""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory
from typing import Any

import cffi

from kvmsve.machine import regfile

HERE = Path(__file__).parent
BUILD_FFI = HERE.parent / "build_ffi.py"


def _compiled() -> Any:
    source = (HERE / "baseline.c").read_text()
    builder = cffi.FFI()
    builder.cdef(re.search(r"/\* cffi: begin \*/(.*)/\* cffi: end \*/", source, re.DOTALL)[1])
    builder.set_source("_baseline", source, extra_compile_args=run_path(str(BUILD_FFI))["C_FLAGS"])
    with TemporaryDirectory() as folder:
        spec = spec_from_file_location("_baseline", builder.compile(folder))
        sys.modules["_baseline"] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


ffi, lib = (module := _compiled()).ffi, module.lib


def of_kvmsve(name: str, kind: str) -> Any:
    """One of kvmsve's C functions, as a pointer that baseline.c can call."""
    return ffi.cast(kind, int(regfile.ffi.cast("uintptr_t", regfile.ffi.addressof(regfile.lib, name))))
