"""Twin of equal."""

from __future__ import annotations

import operator

from qinterp.twin._comparison import compares

compares("equal", operator.eq)
