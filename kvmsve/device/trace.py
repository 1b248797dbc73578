"""A line for each ioctl, for people: who, on what, its name, what it is about, and how it ended."""

from __future__ import annotations

from errno import errorcode

from ..errors import HostOops
from .file import Call, File


def trace_line(who: str, file: File, request: int, call: Call, outcome: int | OSError | HostOops) -> str:
    """As `4711 vm 0 vcpu 0: KVM_GET_ONE_REG Z0 (256 bytes) = 0`; a failure tells its errno and the rule."""
    detail = call.detail if isinstance(call.detail, str) else call.detail()
    about = f"{file.ioctl_name(request)} {detail}".rstrip()
    return f"{who} {file.name}: {about} = {_describe(outcome)}".lstrip()


def _describe(outcome: int | OSError | HostOops) -> str:
    if isinstance(outcome, HostOops):
        return f"the host crashes: {outcome}"
    if isinstance(outcome, OSError):
        return f"-1 {errorcode.get(outcome.errno or 0, outcome.errno)}: {outcome.strerror}"
    return str(outcome)
