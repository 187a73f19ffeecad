"""TensorFlow Lite Micro (``tflite_micro``): its reference kernels, with all tensors preserved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qinterp.errors import InputError, QInterpError, RuntimeUnavailableError
from qinterp.runtimes._tflite_file import interface, listed

_MISSING = "the runtime {name} needs: pip install --pre 'qinterp[tflite-micro]'"
