"""The command line: the parser, and one module a command.

What the commands tell is found out elsewhere.
"""

from .program import main

__all__ = ["main"]
