"""``min(max(x, -1), 1)`` (clause O-relu)."""

from __future__ import annotations

from qinterp.ops._relu import rectifier

RELU_N1_TO_1 = rectifier("relu_n1_to_1", "RELU_N1_TO_1")
