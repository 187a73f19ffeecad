"""``min(max(x, 0), 6)`` (clause O-relu)."""

from __future__ import annotations

from qinterp.ops._relu import rectifier

RELU6 = rectifier("relu6", "RELU6")
