"""What differs: between two revisions, or between what two revisions make of one recording.

How two outcomes of one operation are compared is in ops.
"""

from .recordings import Comparison, kinds
from .revisions import differences, table

__all__ = [
    "Comparison",
    "differences",
    "kinds",
    "table",
]
