"""Twins of relu_n1_to_1."""

from qinterp.twin._relu import rectifier

rectifier("relu_n1_to_1")
