"""Twins of relu6."""

from qinterp.twin._relu import rectifier

rectifier("relu6")
