"""Accuracy against references in several hundred bits: softgrad on every library, the peers in the same table."""
