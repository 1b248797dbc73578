"""Deliberate faults: plausible mistakes in the package, each of which the default test run must catch."""
