"""Seeded random models of one operator, and small chains, for comparing with real backends.

>>> case = random_model("CONV_2D", "int8", np.random.default_rng(0))
>>> result = qinterp.runtimes.runtime("litert-reference").run(case.model, case.inputs)

Every model drawn here is accepted and run by LiteRT's reference kernels.
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
from qinterp.testing.random_models.draw import Case, Draw, registered

__all__ = ["KINDS", "Case", "random_model"]

KINDS: dict[str, tuple[str, ...]] = {kind: dtypes for kind, (dtypes, _) in registered().items()}


def random_model(kind: str, dtype: str, rng: np.random.Generator) -> Case:
    """Draw a model of one operator.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    dtype : str
        One of ``KINDS[kind]``: the type of the activations; "int4" stands for int8 activations with
        int4 weights.
    rng : numpy.random.Generator
        Equal states give equal cases.

    Raises
    ------
    QInterpError
        An unknown kind, or a type that it does not have.
    """
    if kind not in KINDS:
        raise QInterpError(f"unknown kind {kind!r}; known: {', '.join(sorted(KINDS))}")
    if dtype not in KINDS[kind]:
        raise QInterpError(f"{kind} has no {dtype!r}; it has: {', '.join(KINDS[kind])}")
    return registered()[kind][1](Draw(kind, dtype, rng))
