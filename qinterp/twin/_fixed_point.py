"""gemmlowp's fixed-point functions on single integers, as the specification has them.

A number of ``m`` integer bits is an integer in units of ``2**-(31 - m)``.
"""

from __future__ import annotations

from fractions import Fraction

from qinterp.twin._arithmetic import fitted, rounded

_TOP = 2**31 - 1


def product(a: int, b: int) -> int:
    """The doubling high half of ``a * b``, the one overflow saturated."""
    return fitted(rounded(Fraction(a * b, 2**31), "ties_toward_positive"), 32, "saturate")


def power(a: int, exponent: int) -> int:
    """``a * 2**exponent``: saturated upwards, rounded to nearest and away downwards."""
    return fitted(rounded(a * Fraction(2) ** exponent, "ties_to_away"), 32, "saturate")


def zeros(a: int) -> int:
    """Zeros before the first digit of the 32-bit pattern."""
    return 32 - (a % 2**32).bit_length()


def exponential(a: int, m: int) -> int:
    """The exponential of ``a <= 0`` with ``m`` integer bits, as a number with none."""
    if a == 0:
        return _TOP
    n = 31 - m
    # a = within - rest: within in [-1/4, 0), rest a multiple of 1/4
    within = a % 2 ** (n - 2) - 2 ** (n - 2)
    rest = within - a
    x = power(within, m) + 2**28
    square = product(x, x)
    cube, fourth = product(square, x), product(square, square)
    series = product(power(fourth, -2) + cube, 715827883) + square
    result = 1895147668 + product(1895147668, x + power(series, -1))
    bit = n - 2
    for factor in (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242):
        if bit < 31 and rest // 2**bit % 2 == 1:
            result = product(result, factor)
        bit += 1
    if m > 5 and Fraction(a, 2**n) < -32:
        return 0
    return result


def one_over_one_plus(a: int) -> int:
    """1 / (1 + a) for a in 0 .. 1, no integer bits."""
    half = rounded(Fraction(a + _TOP, 2), "ties_to_away")
    x = 1515870810 + product(half, -1010580540)
    for _ in range(3):
        x = fitted(x + power(product(x, 2**29 - product(half, x)), 2), 32, "wrap")
    return power(x, 1)


def reciprocal(a: int, m: int) -> tuple[int, int]:
    """1 / a with ``m`` integer bits: a factor, and the bits to shift it right by."""
    room = zeros(a)
    return one_over_one_plus(fitted(a * 2**room - 2**31, 32, "wrap")), m - room


def inverse_root(n: int) -> tuple[int, int]:
    """1 / sqrt(n) as multiplier and left shift."""
    if n <= 1:
        return _TOP, 0
    right = 11
    while n >= 2**29:
        n, right = n // 4, right + 1
    pairs = (zeros(n) - 1) // 2 - 1
    right -= pairs
    scaled = n * 4**pairs // 2
    half = power(scaled, -1)
    x = 2**28
    for _ in range(5):
        cube = power(product(product(x, x), x), 6)
        x = power(fitted(product(3 * 2**27, x) - product(half, cube), 32, "wrap"), 3)
    multiplier = product(x, 1518500250)
    if right < 0:
        return fitted(multiplier * 2**-right, 32, "wrap"), 0
    return multiplier, -right


def logarithm(a: int, m: int, out: int) -> int:
    """The logarithm of ``a >= 1`` with ``m`` integer bits, as a number with ``out``."""
    inner = out + 1
    quarter = power(2**29, -inner)
    a_room, b = zeros(a), product(a, 1518500250)
    b_room = zeros(b) - 1
    r_a = power(product(power(a, a_room - 1), 1518500250), 1)
    r_b = power(a, b_room)
    z_a = fitted(power(m - a_room, 31 - inner) + quarter, 32, "saturate")
    z_b = fitted(power(m - b_room, 31 - inner) - quarter, 32, "saturate")
    r, z = min(r_a, r_b), max(z_a, z_b)
    p = rounded(Fraction(r + 1805811301, 2), "ties_to_away")
    q = fitted(2 * (r - 1805811301), 32, "wrap")
    c = product(q, q)
    above = product(q, r) + product(product(q, c), 117049297)
    below = product(p, 1057819769 + q + product(127690142, c)) + product(638450708, q)
    ratio = product(power(above, -inner), one_over_one_plus(below))
    return power(product(z, 1488522236) + ratio, inner - out)
