"""Twin of greater."""

from __future__ import annotations

import operator

from qinterp.twin._comparison import compares

compares("greater", operator.gt)
