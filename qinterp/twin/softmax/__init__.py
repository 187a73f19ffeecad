"""Twins of softmax."""

from qinterp.twin.softmax import float32, gemmlowp, interpolated_tables, real

__all__ = ["float32", "gemmlowp", "interpolated_tables", "real"]
