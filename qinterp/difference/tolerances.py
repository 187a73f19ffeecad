"""How much may differ, in LSBs, each with the reason why.

A file of tolerances::

    name = "my-npu"
    [operators]                  # what a node may create, or differ by where that is not known
    max_lsb = 1
    reason = "the requantizer rounds once, the reference twice"

    [outputs]                    # end to end, at the outputs of the whole graph
    max_lsb = 3
    reason = "..."

    [[exception]]                # instead, for a kind of operator, a node, or a tensor
    kind = "softmax"
    max_lsb = 2
    reason = "..."
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qinterp.errors import InputError, SchemeError
from qinterp.numerics.records import build

if TYPE_CHECKING:
    from qinterp.difference.comparison import NodeDiff


@dataclass(frozen=True)
class Tolerance:
    """So many LSBs, and why."""

    max_lsb: int
    reason: str

    def __post_init__(self) -> None:
        if self.max_lsb < 0:
            raise ValueError(f"max_lsb must not be negative, got {self.max_lsb}")
        if not self.reason.strip():
            raise ValueError("a tolerance needs a reason")


@dataclass(frozen=True)
class Special:
    """Another tolerance, for one kind, node or tensor."""

    max_lsb: int
    reason: str
    kind: str | None = None
    node: str | None = None
    tensor: str | None = None

    def __post_init__(self) -> None:
        if sum(where is not None for where in (self.kind, self.node, self.tensor)) != 1:
            raise ValueError("an exception is for one of kind, node and tensor")
        Tolerance(self.max_lsb, self.reason)

    def covers(self, entry: NodeDiff) -> bool:
        """Whether it is for this node."""
        return (
            self.kind == entry.node.kind
            or self.node == entry.node.name
            or self.tensor in entry.node.outputs
        )


@dataclass(frozen=True)
class Violation:
    """Something differs by more than it may.

    Attributes
    ----------
    node, tensor : where; ``tensor`` has the largest difference.
    what : "created", "end_to_end".
    max_lsb, allowed : in ``unit``.
    unit : "LSB", or "ULP" for floats.
    reason : of the tolerance that it breaks.
    """

    node: str
    tensor: str
    what: str
    max_lsb: int
    allowed: int
    unit: str
    reason: str

    def __str__(self) -> str:
        does = "creates" if self.what == "created" else "differs by"
        return (
            f"{self.node} {does} {self.max_lsb} {self.unit}, {self.allowed} allowed: {self.reason}"
        )


@dataclass(frozen=True)
class Tolerances:
    """What a comparison may differ by.

    Attributes
    ----------
    name : of the policy.
    operators : for what each node creates, or differs by end to end where that is not known.
    outputs : for the outputs of the graph, end to end; None: they may differ by anything.
    exception : other values for kinds, nodes or tensors; the last that fits counts.
    everywhere : ``operators`` is for the end-to-end difference of every node too.
    """

    name: str
    operators: Tolerance
    outputs: Tolerance | None = None
    exception: tuple[Special, ...] = ()
    everywhere: bool = False

    def of_node(self, entry: NodeDiff) -> list[Violation]:
        """What a node creates beyond its tolerance."""
        allowed: Tolerance | Special = self.operators
        for exception in self.exception:
            if exception.covers(entry):
                allowed = exception
        found = {"created": entry.created}
        if entry.created is None or self.everywhere:
            found["end_to_end"] = entry.end_to_end
        return [
            Violation(
                entry.node.name,
                d.tensor or "",
                what,
                d.max_lsb,
                allowed.max_lsb,
                d.unit,
                allowed.reason,
            )
            for what, d in found.items()
            if d is not None and d.max_lsb > allowed.max_lsb
        ]

    def of_output(self, tensor: str, entry: NodeDiff) -> list[Violation]:
        """What an output of the graph differs by beyond its tolerance."""
        found, allowed = entry.end_to_end, self.outputs
        if allowed is None or found is None or found.max_lsb <= allowed.max_lsb:
            return []
        return [
            Violation(
                entry.node.name, tensor, "end_to_end", found.max_lsb, allowed.max_lsb, found.unit,
                allowed.reason,
            )
        ]  # fmt: skip


def at_most(max_lsb: int, reason: str = "the limit that was asked for") -> Tolerances:
    """No node may create more than ``max_lsb`` or differ by more end to end; not negative."""
    if max_lsb < 0:
        raise InputError(f"max_lsb must not be negative, got {max_lsb}")
    return Tolerances(f"{max_lsb} LSB", Tolerance(max_lsb, reason), everywhere=True)


POLICIES = {
    "nnapi": Tolerances(
        "nnapi",
        Tolerance(1, "Android's NNAPI tests let a quantized operator differ by one step"),
        Tolerance(3, "Android's NNAPI tests let a whole quantized MobileNet differ by three"),
    )
}
"""Tolerances that go by a name."""


def load_tolerances(given: str | os.PathLike[str] | Tolerances) -> Tolerances:
    """A policy by name, or from a .toml file.

    Raises
    ------
    InputError : no such policy, or a malformed file.
    """
    if isinstance(given, Tolerances):
        return given
    text = os.fspath(given)
    if text in POLICIES:
        return POLICIES[text]
    if not text.endswith(".toml"):
        raise InputError(
            f"no tolerances {text!r}; known: {', '.join(POLICIES)}; or give a path to a .toml"
        )
    try:
        return build(Tolerances, tomllib.loads(Path(text).read_text(encoding="utf-8")), text)
    except OSError as error:
        raise InputError(f"{text}: {error.strerror}") from None
    except RecursionError:
        raise InputError(f"{text}: not a file of tolerances: nested too deeply") from None
    except (ValueError, SchemeError) as error:
        raise InputError(f"{text}: not a file of tolerances: {error}") from None
