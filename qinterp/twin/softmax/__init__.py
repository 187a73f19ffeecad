"""Twins of softmax."""

from qinterp.twin.softmax import float32, float_table, gemmlowp, interpolated_tables, real

__all__ = ["float32", "float_table", "gemmlowp", "interpolated_tables", "real"]
