"""One call at a time on an object, whatever threads the calls come from, as the kernel's mutexes have it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar


class Guarded(Protocol):
    """An object with a mutex."""

    _mutex: Any


Owner = TypeVar("Owner", bound=Guarded)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Method = Callable[Concatenate[Owner, Parameters], Result]

Mutex = RLock


def serialised(method: Method[Owner, Parameters, Result]) -> Method[Owner, Parameters, Result]:
    """The method runs while no other thread runs one of its object's; a thread's own calls nest."""

    @wraps(method)
    def call(self: Owner, /, *arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        with self._mutex:
            return method(self, *arguments, **options)

    return call
