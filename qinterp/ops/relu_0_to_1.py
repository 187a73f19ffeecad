"""``min(max(x, 0), 1)`` (clause O-relu)."""

from __future__ import annotations

from qinterp.ops._relu import rectifier

RELU_0_TO_1 = rectifier("relu_0_to_1", "RELU_0_TO_1")
