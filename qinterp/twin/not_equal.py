"""Twin of not_equal."""

from __future__ import annotations

import operator

from qinterp.twin._comparison import compares

compares("not_equal", operator.ne)
