"""Twin of reduce_max."""

from __future__ import annotations

from qinterp.twin._reduced_extremum import extremum

extremum("reduce_max", max, -1)
