"""Objects that take no attribute but their own: what is misspelt is told, not kept."""

from __future__ import annotations

import re
from typing import Any, ClassVar, NoReturn

from .right_ways import Ways

_put = object.__setattr__


class Closed:
    """A base of classes with __slots__: to assign what is not there, or not to be assigned, is AttributeError.

    It names the right way: `RIGHT_WAYS` has it for attributes that people try, by pattern; else it is the nearest
    name. `NOUN` is what such an object is called.
    """

    __slots__ = ()
    NOUN: ClassVar[str] = "an object"
    RIGHT_WAYS: ClassVar[Ways] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            _put(self, name, value)
        except AttributeError:
            if hasattr(type(self), name):
                self._refuse_value(name)
            self._refuse(name)

    def _refuse_value(self, name: str) -> NoReturn:
        raise AttributeError(f"{name} of {self.NOUN} cannot be assigned{_behind(self._right_way(name))}") from None

    def _refuse(self, name: str) -> NoReturn:
        way = self._right_way(name) or _near(name, dir(self))
        raise AttributeError(f"{self.NOUN} has no {name}{_behind(way)}") from None

    def _right_way(self, name: str) -> str:
        found = ((re.fullmatch(pattern, name), way) for pattern, way in self.RIGHT_WAYS)
        return next((match.expand(way) for match, way in found if match), "")


class Settled(Closed):
    """The same for a read, and the slots in `FIXED` keep their first value.

    Python takes three times as long for each attribute of such an object, so that a vCPU and its guest are none.
    """

    __slots__ = ()
    FIXED: ClassVar[frozenset[str]] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.FIXED and hasattr(self, name):
            self._refuse_value(name)
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> NoReturn:
        if hasattr(type(self), name):  # a property that raised, or a slot without a value
            object.__getattribute__(self, name)
        self._refuse(name)


def _behind(way: str) -> str:
    return f": {way}" if way else ""


def _near(name: str, names: list[str]) -> str:
    from difflib import get_close_matches  # dear to import, and for a mistake alone

    public = [known for known in names if not known.startswith("_") and not known.isupper()]
    near = get_close_matches(name, public, n=1)
    return f"did you mean {near[0]}?" if near and not name.startswith("_") else ""
