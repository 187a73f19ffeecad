"""Twins of relu."""

from qinterp.twin._relu import rectifier

rectifier("relu")
