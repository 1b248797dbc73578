"""A guest that fills its vector registers so that each byte tells where it belongs: a script for kvmsve run --guest.

It makes the file that GUEST_HAS_RUN names once it has done so.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

ZCR = 0xF
FPSR = 0x0800_009F  # every bit of AArch64
FPCR = 0x07C0_0000  # rounding towards zero, FZ, DN, AHP
Z_SEEDS, P_SEEDS, FFR_SEED = range(32), range(32, 48), 48


def pattern(size: int, seed: int) -> bytes:
    """No byte is zero, and no two seeds give the same."""
    return bytes(1 + (seed * 37 + at) % 255 for at in range(size))


def run(guest: Any, vcpu: int, n: int) -> None:
    """The first run fills Z, P and FFR at the full length, FPSR, FPCR and ZCR_EL1; later ones do nothing."""
    if n > 0:
        return
    guest.zcr = ZCR
    for number, seed in enumerate(Z_SEEDS):
        guest.z[number] = pattern(guest.vl, seed)
    for number, seed in enumerate(P_SEEDS):
        guest.p[number] = pattern(guest.vl // 8, seed)
    guest.ffr = pattern(guest.vl // 8, FFR_SEED)
    guest.fpsr, guest.fpcr = FPSR, FPCR
    if "GUEST_HAS_RUN" in os.environ:
        Path(os.environ["GUEST_HAS_RUN"]).touch()
