"""Twins of relu_0_to_1."""

from qinterp.twin._relu import rectifier

rectifier("relu_0_to_1")
