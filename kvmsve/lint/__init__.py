"""What a VMM loses or risks when it saves and restores a vCPU: rules over a recording's calls.

What a vCPU held, and how losses are told, is in state.
"""

from .report import lint

__all__ = [
    "lint",
]
