"""Accuracy against references in several hundred bits: softgrad on every library, the peers in the same table."""

import sys
from pathlib import Path

# arrays are made as the test suite makes them
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
