"""The whole default run has a process for each CPU; nothing else starts any, least of all such a process."""

import os
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import pytest
from places import TESTS

spec = spec_from_file_location("conftest_of_all_tests", TESTS / "conftest.py")
conftest = module_from_spec(spec)  # folders have conftests of their own, and one name for all
spec.loader.exec_module(conftest)

Source = pytest.Config.ArgsSource


def processes(source=Source.TESTPATHS, marks=conftest.DEFAULT_MARKS, has_xdist=True, asked=None, **attributes):
    """How many processes a run with this command line has; None is the one that there is."""
    option = SimpleNamespace(markexpr=marks, numprocesses=asked, dist="no")
    plugins = SimpleNamespace(hasplugin=lambda name: has_xdist and name == "xdist")
    config = SimpleNamespace(args_source=source, option=option, pluginmanager=plugins, **attributes)
    conftest.pytest_cmdline_main(config)
    return option.numprocesses


def test_the_whole_default_run_has_a_process_for_each_cpu():
    assert processes() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "run",
    [
        {"workerinput": {}},
        {"source": Source.ARGS},
        {"marks": "long"},
        {"has_xdist": False},
    ],
)
def test_another_run_has_one_process(run):
    assert processes(**run) is None


@pytest.mark.parametrize("asked", [0, 1, 3])
def test_the_number_of_processes_is_the_one_that_is_asked_for(asked):
    assert processes(asked=asked) == asked


def test_the_marks_are_those_of_the_project(pytestconfig):
    assert f"-m '{conftest.DEFAULT_MARKS}'" in pytestconfig.inipath.read_text()
