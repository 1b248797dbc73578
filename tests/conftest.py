"""The whole default run goes on all CPUs, where pytest-xdist is there; a part of it, or -m long, in one process."""

from __future__ import annotations

import os

import pytest

DEFAULT_MARKS = "not long and not qemu"  # of addopts in pyproject.toml


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")  # which is given the same command line, and must start no workers
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and config.option.markexpr == DEFAULT_MARKS
    if is_whole and not is_worker and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        config.option.numprocesses = len(os.sched_getaffinity(0))
        config.option.dist = "worksteal"
