"""Tests of the device run where there are few descriptors: what one has opened is closed at its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from kvmsve.device.descriptors import Descriptors, Identity, identity
from kvmsve.device.file import File


@pytest.fixture(autouse=True)
def _descriptors_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[tuple[int, Identity]] = []
    install = Descriptors.install

    def note(descriptors: Descriptors, file: File) -> int:
        number = install(descriptors, file)
        made.append((number, identity(number)))
        return number

    monkeypatch.setattr(Descriptors, "install", note)
    yield
    for number, which in made:
        with suppress(OSError):
            if identity(number) == which:
                os.close(number)
