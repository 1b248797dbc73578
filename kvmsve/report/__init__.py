"""What is found, as text for people.

What is told is found out elsewhere.
"""

from .vcpu import describe

__all__ = [
    "describe",
]
