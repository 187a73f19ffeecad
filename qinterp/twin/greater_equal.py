"""Twin of greater_equal."""

from __future__ import annotations

import operator

from qinterp.twin._comparison import compares

compares("greater_equal", operator.ge)
