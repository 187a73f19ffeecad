"""Rectifiers that clamp the input's codes and do not change the scale (clause O-clamped_codes).

Source: tensorflow/lite/micro/kernels/activations_common.cc Relu6Prepare; activations.cc Relu6Eval;
tensorflow/lite/micro/micro_utils.h FloatToQuantizedType.
"""

from __future__ import annotations

import numpy as np

from qinterp.ir import Call
from qinterp.numerics.scales import ACTIVATIONS
from qinterp.ops._operator import Run
from qinterp.ops._tables import codes_of, lookup
from qinterp.ops.relu6 import RELU6


@RELU6.recipe("clamped_codes")
def clamped_codes(call: Call) -> Run:
    """``out = min(max(x, low), high)`` in codes of the input, whatever the output's grid."""
    call.types(input=("int8", "int16"), output=(call["input"].dtype,))
    scale, zero_point = call.per_tensor(call["input"])
    kind = call["input"].int_type
    code = call.policy.activation_bounds.code
    low, high = (
        min(max(code(bound, scale, zero_point), kind.min), kind.max)
        for bound in ACTIVATIONS[call.attributes["activation"]]
        if bound is not None
    )
    # in this order: the upper bound wins where both are the same end of the codes
    return lookup(call, np.minimum(np.maximum(codes_of(call["input"].dtype), low), high))
