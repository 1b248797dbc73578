"""Where the tests find what they need of the project."""

from __future__ import annotations

from pathlib import Path

import kvmsve

TESTS = Path(__file__).parent
ROOT = TESTS.parent
RECORDINGS = TESTS / "recordings"
TABLES = TESTS / "tables"
CLIENTS = TESTS / "device" / "clients"
PACKAGE = Path(kvmsve.__file__).parent
SHIPPED = PACKAGE / "recording" / "shipped"
