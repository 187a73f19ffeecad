"""Twins of square."""

from qinterp.twin._unary import f32, float32, real

float32("square", lambda t, x: f32(x * x))
real("square", lambda t, x: x * x)
