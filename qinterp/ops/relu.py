"""``max(x, 0)`` (clause O-relu)."""

from __future__ import annotations

from qinterp.ops._relu import rectifier

RELU = rectifier("relu", "RELU")
