"""What differs: between two revisions, or between what two revisions make of one recording.

How two outcomes of one operation are compared is in ops.
"""

from .recordings import Comparison, kinds
from .revisions import columns, differences, table

__all__ = [
    "Comparison",
    "columns",
    "differences",
    "kinds",
    "table",
]
