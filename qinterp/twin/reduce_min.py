"""Twin of reduce_min."""

from __future__ import annotations

from qinterp.twin._reduced_extremum import extremum

extremum("reduce_min", min, 1)
