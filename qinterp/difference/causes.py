"""Differing elements of one node, each placed against the exact result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from qinterp.difference.nodes import NodeRunner, Prepared, operand_values
from qinterp.errors import QInterpError
from qinterp.ir import Node
from qinterp.ir.tensor import Array
from qinterp.numerics.scales import EffectiveScale
from qinterp.numerics.stages import DivideScale, Scale, ScaleExact
from qinterp.ops import NO_NOTES
from qinterp.ops._operator import Run

_MOST = 4096  # elements of a node looked at one by one, in Python integers


@dataclass
class Causes:
    """What the differing elements are, counted.

    Attributes
    ----------
    looked_at : elements classified.
    ties : exact results half way between two codes.
    nearer : of the other elements, by side ("a", "b", "neither"): whose code is the nearer to the
        exact result.
    kinds : cause to number of elements: "tie", "overflow in A", "overflow in B", "multiplier in
        A" (the error of the multiplier alone moves the result), "rounding in A" (it is rounded
        more than once, or not to the nearest), the same of B, "unknown".
    """

    looked_at: int = 0
    ties: int = 0
    nearer: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def count(self, cause: str) -> int:
        """Elements of a cause on either side."""
        return sum(n for kind, n in self.kinds.items() if kind.startswith(cause))


class Judge:
    """Places the differing elements of one node, for operands of certain shapes.

    Parameters
    ----------
    truth : of the scheme "exact".
    values : the node's operands in any sample.
    runners : of the sides that can be executed, by side ("a", "b").
    """

    def __init__(
        self, truth: NodeRunner, node: Node, values: Mapping[str, Array],
        runners: Mapping[str, NodeRunner],
    ) -> None:  # fmt: skip
        self._node = node
        self._runners = {"exact": truth, **runners}
        self._graph = truth.graph
        self._roundings: list[Run] = []
        self._factors: dict[str, list[Fraction]] = {}
        try:
            prepared = truth.prepared(node, values)
            for rule in ("ties_toward_negative", "ties_toward_positive"):
                run = _rounded(prepared, rule).runnable()
                if run is not None:
                    self._roundings.append(run)
            self._factors = self._find_factors(values)
        except QInterpError:
            pass

    def count(self, values: Mapping[str, Array], codes: Mapping[str, Array], found: Causes) -> None:
        """Count the differing elements of one sample.

        Parameters
        ----------
        values : the operands that both sides had.
        codes : the node's first output by side, "a" and "b".
        found : is added to.
        """
        where = np.flatnonzero(codes["a"] != codes["b"])
        room = _MOST - found.looked_at
        if room <= 0:
            return
        if where.size > room:  # spread over the tensor: its first rows are its upper border
            where = where[np.linspace(0, where.size - 1, room).astype(int)]
        both = self._exact(values)
        found.looked_at += where.size
        if both is None or both[0].shape != codes["a"].shape:
            found.kinds["unknown"] += where.size
            return
        low, high = (side.reshape(-1)[where].astype(np.int64) for side in both)
        at = {side: value.reshape(-1)[where].astype(np.int64) for side, value in codes.items()}
        # twice the distance to the middle of the two roundings, which is the result if it is a tie
        distance = {side: np.abs(2 * value - (low + high)) for side, value in at.items()}
        tie = low != high
        found.ties += int(tie.sum())
        for side, other in ("ab", "ba"):
            found.nearer[side] += int((~tie & (distance[side] < distance[other])).sum())
        found.nearer["neither"] += int((~tie & (distance["a"] == distance["b"])).sum())
        sums = self._sums(values, where)
        for i in range(where.size):
            found.kinds[_cause(i, at, int(low[i]), bool(tie[i]), sums)] += 1

    def _exact(self, values: Mapping[str, Array]) -> tuple[Array, Array] | None:
        """The first output with ties toward negative, and toward positive; None if unknown."""
        operands = operand_values(self._graph, self._node, values)
        try:
            outputs = [run(operands, NO_NOTES)[0] for run in self._roundings]
        except (QInterpError, ValueError, ArithmeticError):
            return None
        if len(outputs) < 2 or outputs[0].dtype.kind == "f":
            return None
        return outputs[0], outputs[1]

    def _notes(self, side: str, values: Mapping[str, Array]) -> Mapping[str, Any]:
        wanted = ("accumulator", "multiplier", "shift")
        result = self._runners[side].run(self._node, values, wanted)
        return result.notes.get(self._node.name, {})

    def _find_factors(self, values: Mapping[str, Array]) -> dict[str, list[Fraction]]:
        """What each side multiplies its accumulators by; none if the node has no such."""
        if "multiplier" not in self._notes("exact", values):
            return {}
        found = {}
        for side in self._runners.keys() - {"exact"}:
            notes = self._notes(side, values)
            if "multiplier" in notes:
                found[side] = _factors(self._runners[side].prepared(self._node, values), notes)
        return found

    def _sums(self, values: Mapping[str, Array], where: Array) -> _Sums | None:
        """Accumulators at the differing elements; None if the node is no requantized sum."""
        try:
            total = self._notes("exact", values).get("accumulator") if self._factors else None
            if total is None:
                return None
            own = {side: self._notes(side, values)["accumulator"] for side in self._factors}
        except QInterpError:
            return None
        return _Sums(
            total.reshape(-1)[where],
            {side: accumulators.reshape(-1)[where] for side, accumulators in own.items()},
            where % total.shape[-1],
            self._graph.tensors[self._node.outputs[0]].zero_point,
            self._factors,
        )


def _rounded(exact: Prepared, rule: Any) -> Prepared:
    """An exact node under another rule for ties."""
    policy, params = exact.policy, exact.params
    if hasattr(params, "rounding"):
        params = replace(params, rounding=rule)
    else:
        policy = replace(
            policy,
            requantize=tuple(
                replace(stage, rounding=rule) if isinstance(stage, ScaleExact) else stage
                for stage in policy.requantize
            ),
        )
    return exact.altered(policy, exact.recipe, params)


def _cause(i: int, at: Mapping[str, Any], exact: int, tie: bool, sums: _Sums | None) -> str:
    if sums is not None:
        for side, accumulators in sums.accumulators.items():
            if int(accumulators[i]) != int(sums.true[i]):
                return f"overflow in {side.upper()}"
    if tie:
        return "tie"
    wrong = [side for side in "ba" if int(at[side][i]) != exact]
    if sums is None or not wrong:
        return "unknown"
    side = max(wrong, key=lambda s: abs(int(at[s][i]) - exact))
    product = sums.product(side, i)
    if product is None:
        return "unknown"
    # the code that the side's own multiplier leads to, if it is then rounded once to the nearest
    near = abs(product - int(at[side][i])) <= Fraction(1, 2)
    return f"{'multiplier' if near else 'rounding'} in {side.upper()}"


@dataclass
class _Sums:
    """Accumulators at the differing elements, and what each side multiplies them by."""

    true: Any
    accumulators: dict[str, Any]
    channels: Any
    zero_point: int
    factors: dict[str, list[Fraction]]

    def product(self, side: str, i: int) -> Fraction | None:
        """The exact result of what ``side`` multiplies, zero point included."""
        factors = self.factors.get(side)
        if not factors:
            return None
        factor = factors[int(self.channels[i]) if len(factors) > 1 else 0]
        return int(self.accumulators[side][i]) * factor + self.zero_point


def _factors(side: Prepared, notes: Mapping[str, Any]) -> list[Fraction]:
    """What a side multiplies its accumulators by, one a channel or one for all."""
    policy, call = side.policy, side.call
    scales = [t.quantization.scale for t in call.inputs if t and t.quantization]
    if len(scales) < 2:
        return []
    first, second, out = scales[0], scales[1], call.quantization(call.output).scale
    for stage in policy.requantize:
        if isinstance(stage, (Scale, DivideScale)):
            values, _ = policy.effective_scale.of(first, second, out)
            return [Fraction(float(v)) for v in values.astype(stage.precision)]
        if isinstance(stage, ScaleExact):
            return EffectiveScale(precision="exact").of(first, second, out)[1]
    drop = 0 if policy.multiplier.form == "pre_post_shift" else policy.multiplier.fraction_bits
    return [
        int(m) * Fraction(2) ** (int(s) - drop)
        for m, s in zip(notes["multiplier"], notes["shift"], strict=True)
    ]
