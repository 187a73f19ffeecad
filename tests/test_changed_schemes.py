"""The fast code equals its twin under schemes that no backend has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import SEED
from judging import against_twin
from test_twin import work

from qinterp.errors import QInterpError
from qinterp.schemes_io import load_scheme
from qinterp.testing.random_models import random_model

MANTISSA_OF_8_BITS = [
    {"stage": "multiply", "bits": 64},
    {"stage": "shift_right", "amount": "total", "by": 8, "rounding": "ties_to_even"},
    {"stage": "add_zero_point"},
    {"stage": "clamp"},
]
CHANGES: dict[str, dict[str, Any]] = {
    "other roundings": {
        "requantize.multiply_high.rounding": "ties_to_even",
        "requantize.shift_right.rounding": "toward_zero",
        "multiplier.rounding": "toward_negative",
    },
    "wraps at 16 bits": {"accumulator.bits": 16},
    "saturates at 16 bits each step": {
        "accumulator.bits": 16,
        "accumulator.overflow": "saturate",
        "accumulator.bias": "first",
        "accumulator.order": ["ic", "kw", "kh"],
    },
    "saturates at 12 bits at the end": {
        "accumulator.bits": 12,
        "accumulator.overflow": "saturate",
        "accumulator.check": "at_end",
    },
    "raw pairs at 16 bits": {
        "accumulator.operands": "raw",
        "accumulator.group": {"size": 2, "bits": 16, "overflow": "saturate"},
    },
    "padding of code 0": {"accumulator.padding": "zero", "accumulator.bits": 20},
    "float32 scale": {"requantize": "float32_ties_to_even", "effective_scale.precision": "float32"},
    "float64 scale": {"requantize": "float64_ties_to_away"},
    "a mantissa of 8 bits": {"multiplier.bits": 8, "requantize": MANTISSA_OF_8_BITS},
}


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_fast_equals_twin(changes: dict[str, Any], kind: str) -> None:
    base = load_scheme("tflite-reference").with_({"requantize": "gemmlowp"})
    scheme = base.with_(changes)
    judged = 0
    for seed in range(60):
        case = random_model(kind, "int8", np.random.default_rng([SEED, seed]))
        if work(case.model) < 4_000:
            assert against_twin(case.model, case.inputs, scheme) == [], (seed, case.description)
            judged += 1
        if judged == 4:
            return
    assert judged


def test_an_accumulator_that_must_not_overflow_fails_by_name() -> None:
    scheme = load_scheme("tflite-reference").with_(
        {"accumulator.bits": 4, "accumulator.overflow": "error"}
    )
    case = random_model("CONV_2D", "int8", np.random.default_rng(SEED))
    with pytest.raises(QInterpError, match=r"'conv_2d_0'.*more than 4 bits"):
        against_twin(case.model, case.inputs, scheme)
