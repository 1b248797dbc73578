"""What is found, as text for people.

What is told is found out elsewhere.
"""

from .table import Cells, Row, lines_of_table
from .vcpu import describe

__all__ = [
    "Cells",
    "Row",
    "describe",
    "lines_of_table",
]
