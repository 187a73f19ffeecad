"""Twin of less."""

from __future__ import annotations

import operator

from qinterp.twin._comparison import compares

compares("less", operator.lt)
