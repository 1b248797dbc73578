"""Fuzzers: files, registers and arrays that no test thought of, under coverage guidance (atheris, libFuzzer).

`python -m tests.fuzz --help` runs them; `tests/fuzz/sanitize` runs anything on a C module with ASan and UBSan.
"""
