"""Rounding and overflow by name, and the codes that the kernels know them by."""

from __future__ import annotations

from typing import Literal, get_args

Rounding = Literal[
    "ties_to_even",
    "ties_to_away",
    "ties_toward_positive",
    "ties_toward_negative",
    "ties_toward_zero",
    "toward_negative",
    "toward_zero",
    "toward_positive",
    "away_from_zero",
]
Overflow = Literal["wrap", "saturate", "error", "indefinite"]
"""``indefinite``: an x86 float to integer conversion, which gives the least integer."""

ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)
ROUNDING_CODE: dict[Rounding, int] = {name: code for code, name in enumerate(ROUNDINGS)}
OVERFLOW_CODE: dict[Overflow, int] = {name: code for code, name in enumerate(OVERFLOWS)}
