"""Seeded random models of one operator, and small networks, for comparing with real backends.

>>> case = random_model("CONV_2D", "int8", np.random.default_rng(0))
>>> qinterp.runtimes.runtime("litert-reference").run(case.model, case.inputs)

Every model of a pair in `KINDS` is accepted and run by LiteRT's reference kernels, and does not
crash its other ones (ai-edge-litert 2.3.0).
"""

from __future__ import annotations

import numpy as np

from qinterp.errors import QInterpError

# Imported for what they register.
from qinterp.testing.random_models import (  # noqa: F401
    elementwise,
    movement,
    pooling,
    recurrent,
    unary,
    weighted,
)
from qinterp.testing.random_models.chain import small_chain
from qinterp.testing.random_models.draw import FAMILIES, Case, Draw

__all__ = ["BEYOND_REFERENCE", "KINDS", "REFUSED", "Case", "random_model", "small_chain"]

# A label is the type of the activations: of the operand for CAST and DEQUANTIZE, of the result for
# QUANTIZE, of the table for EMBEDDING_LOOKUP. "int4" stands for int8 activations with int4 weights,
# "int32" for plain integers without parameters.
KINDS: dict[str, tuple[str, ...]] = {
    kind: family.dtypes for kind, family in FAMILIES.items() if family.dtypes
}

# Pairs that LiteRT's reference kernels do not run, or not properly, but its other ones or another
# runtime do.
BEYOND_REFERENCE: dict[str, tuple[str, ...]] = {
    kind: family.beyond_reference for kind, family in FAMILIES.items() if family.beyond_reference
}

# Pairs of the types int8, uint8, int16, float32, and of int4 weights, that are not in KINDS.
REFUSED: dict[tuple[str, str], str] = {
    ("ELU", "int8"): "not registered by the reference resolver",
    ("ELU", "float32"): "not registered by the reference resolver",
    ("SUM", "int16"): "the reference kernel writes bytes, half of the output stays unwritten",
} | {
    (kind, dtype): "refused by the kernel"
    for kind, dtypes in {
        "ABS": "uint8",
        "ARG_MAX": "int16",
        "ARG_MIN": "int16",
        "BATCH_MATMUL": "uint8",
        "DEPTH_TO_SPACE": "int16",
        "ELU": "uint8 int16",
        "EXP": "uint8",
        "HARD_SWISH": "int16",
        "L2_NORMALIZATION": "int16",
        "LOG_SOFTMAX": "int16",
        "NEG": "uint8",
        "RELU_0_TO_1": "int16",
        "RELU_N1_TO_1": "int16",
        "RSQRT": "uint8",
        "SPACE_TO_DEPTH": "int16",
        "SQUARE": "int8 uint8 int16",
        "SQUARED_DIFFERENCE": "uint8 int16",
        "SVDF": "uint8 int16",
        "TRANSPOSE_CONV": "int4",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "uint8 int16",
    }.items()
    for dtype in dtypes.split()
}


def random_model(kind: str, dtype: str, rng: np.random.Generator) -> Case:
    """Draw a model of one operator.

    Parameters
    ----------
    kind : str
        A key of `KINDS` or of `BEYOND_REFERENCE`.
    dtype : str
        One of the labels there.
    rng : numpy.random.Generator
        Equal states give equal cases.

    Raises
    ------
    QInterpError
        An unknown kind, or a label that it does not have.
    """
    if kind not in FAMILIES:
        raise QInterpError(f"unknown kind {kind!r}; known: {', '.join(sorted(FAMILIES))}")
    family = FAMILIES[kind]
    labels = family.dtypes + family.beyond_reference
    if dtype not in labels:
        reason = REFUSED.get((kind, dtype))
        raise QInterpError(
            f"{kind} has no {dtype!r}{f' ({reason})' if reason else ''}; it has: "
            f"{', '.join(labels)}"
        )
    return family.generator(Draw(kind, dtype, rng))
