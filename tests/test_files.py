"""A file is there, complete, under its name, or not there at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kvmsve.files import whole_file


def test_file_has_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with whole_file(path) as partial:
        partial.write_bytes(b"new")
        assert not path.exists()
        assert partial.parent == tmp_path
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert path.read_bytes() == b"new"


def test_older_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with whole_file(path) as partial:
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_failure_leaves_what_there_was(tmp_path: Path, written: bool, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def fail() -> None:
        with whole_file(path) as partial:
            if written:
                partial.write_bytes(b"new")
            raise error("in the block")

    with pytest.raises(error, match="in the block"):
        fail()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert path.read_bytes() == b"old"


def test_file_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_directory_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="directory"), whole_file(tmp_path / "out") as partial:
        partial.write_bytes(b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_two_files_at_once_do_not_meet(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "b") as second:
        first.write_bytes(b"a")
        second.write_bytes(b"b")
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"a": b"a", "b": b"b"}


def test_pipe_is_written_to_by_the_name_of_its_descriptor() -> None:
    """As /dev/stdout and >(COMMAND) are: links whose text is no path."""
    reader, writer = os.pipe()
    with whole_file(Path(f"/dev/fd/{writer}")) as path:
        path.write_bytes(b"new")
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"new"


def test_links_that_lead_to_each_other_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as raised, whole_file(tmp_path / "a") as partial:
        partial.write_bytes(b"new")
    assert raised.value.errno == errno.ELOOP
    assert all(entry.is_symlink() for entry in tmp_path.iterdir())


def test_link_to_nothing_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    with whole_file(tmp_path / "link") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out").read_bytes() == b"new"
