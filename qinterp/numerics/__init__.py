"""Scalar arithmetic as data: stages, scales, accumulators, and the kernels that apply them."""
