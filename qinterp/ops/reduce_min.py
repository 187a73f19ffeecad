"""Least element over axes (clause O-reduce_min).

Source: tflite/kernels/reduce.cc EvalType with kMin.
"""

from __future__ import annotations

import numpy as np

from qinterp.ops._reduced_extremum import extremum

REDUCE_MIN = extremum("reduce_min", "REDUCE_MIN", np.minimum, np.fmin)
