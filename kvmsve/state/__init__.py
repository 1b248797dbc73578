"""What is held of a vCPU at one moment: to look at, to compare, to save and to restore.

How it was asked for is in ops."""

from .held import held
from .losses import Loss, describe, losses
from .migration import SavedVcpu, restore, save
from .snapshot import Registers, Snapshot, canonical, take

__all__ = [
    "Loss",
    "Registers",
    "SavedVcpu",
    "Snapshot",
    "canonical",
    "describe",
    "held",
    "losses",
    "restore",
    "save",
    "take",
]
