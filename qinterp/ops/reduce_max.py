"""Greatest element over axes (clause O-reduce_max).

Source: tflite/kernels/reduce.cc EvalType with kMax.
"""

from __future__ import annotations

import numpy as np

from qinterp.ops._reduced_extremum import extremum

REDUCE_MAX = extremum("reduce_max", "REDUCE_MAX", np.maximum, np.fmax)
