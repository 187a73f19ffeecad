"""Twin of less_equal."""

from __future__ import annotations

import operator

from qinterp.twin._comparison import compares

compares("less_equal", operator.le)
