"""The errors that qinterp raises; every one of them is a :class:`QInterpError`."""

from __future__ import annotations


class QInterpError(Exception):
    """Base of everything qinterp raises on purpose."""


class ModelFormatError(QInterpError):
    """The file is not a well-formed model, or says something impossible."""


class UnsupportedOperatorError(QInterpError):
    """An importer does not know an operator, or a scheme has no rule for it."""


class SchemeError(QInterpError):
    """A scheme is malformed: the text names the file and the key path."""


class InputError(QInterpError):
    """An array or a name given by the caller does not fit the graph."""


class RuntimeUnavailableError(QInterpError):
    """A real backend is not installed here, or cannot run here."""
