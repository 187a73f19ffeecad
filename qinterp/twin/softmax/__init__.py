"""Twins of softmax."""

from qinterp.twin.softmax import (
    exponential_table,
    float32,
    float_table,
    gemmlowp,
    interpolated_tables,
    real,
)

__all__ = [
    "exponential_table",
    "float32",
    "float_table",
    "gemmlowp",
    "interpolated_tables",
    "real",
]
