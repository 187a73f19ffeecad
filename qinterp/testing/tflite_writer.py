"""A small writer of .tflite files, for models of one or a few operators.

The schema is read off the generated code of the ``tflite`` package (its ``XxxAddField`` functions),
so every operator and option of that schema is known here without a list of our own.

>>> writer = ModelWriter()
>>> x = writer.input("x", (1, 4), "int8", scale=0.5)
>>> y = writer.tensor("y", (1, 4), "int8", scale=1 / 256, zero_point=-128)
>>> writer.operator("SOFTMAX", [x], [y], beta=1.0)
>>> data = writer.finish(outputs=[y])
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import ArrayLike, NDArray

from qinterp.errors import QInterpError

# Storage of each tensor type; int4 is packed two to a byte in the file, one to an int8 here.
_STORAGE = {
    "int4": np.int8,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "float16": np.float16,
    "float32": np.float32,
    "bool": np.bool_,
}

# Operators whose options table does not bear the operator's own name.
_SHARED_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "MULTINOMIAL": "RandomOptions",
    "RANDOM_UNIFORM": "RandomOptions",
    "RANDOM_STANDARD_NORMAL": "RandomOptions",
} | dict.fromkeys(
    ["MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL"],
    "ReducerOptions",
)

# Enumeration of an option's values; options not named here hold plain numbers.
_OPTION_ENUMS = {
    "padding": "Padding",
    "fusedactivationfunction": "ActivationFunctionType",
    "mode": "MirrorPadMode",
    "weightsformat": "FullyConnectedOptionsWeightsFormat",
    "kerneltype": "LSTMKernelType",
    "combiner": "CombinerType",
} | dict.fromkeys(
    ["quantizedbiastype", "indatatype", "outdatatype", "outtype", "outputtype", "idxouttype"],
    "TensorType",
)

# Operator versions by the type of the deciding operand ("" for the others), where they are not 1.
# They follow tensorflow's op_version.cc, held down to what the reference resolver of LiteRT
# registers: a newer version would not load there, though the kernels are the same.
_SIGNED = {"int8": 2, "int16": 3}
_VERSIONS: dict[str, dict[str, int]] = {
    "ABS": {"int8": 2, "uint8": 2, "int16": 3},
    "ADD": _SIGNED,
    "ARG_MAX": {"int8": 2},
    "ARG_MIN": {"int8": 2},
    "AVERAGE_POOL_2D": _SIGNED,
    "BATCH_MATMUL": _SIGNED,
    "BATCH_TO_SPACE_ND": {"": 3, "int16": 4},
    "BROADCAST_TO": {"": 2, "int8": 3, "int16": 3},
    "CONCATENATION": _SIGNED,
    "CONV_2D": {"int8": 3, "int16": 4, "int4": 7},
    "DEPTHWISE_CONV_2D": {"": 2, "int8": 3, "int16": 5, "int4": 6},
    "DEQUANTIZE": {"int8": 2, "int16": 3, "float16": 3, "int4": 6},
    "EMBEDDING_LOOKUP": {"int8": 4, "uint8": 4, "int4": 4},
    "EQUAL": {"int8": 2, "int16": 5},
    "EXP": {"int8": 2, "int16": 2},
    "FULLY_CONNECTED": {"": 6, "int16": 7, "int4": 10},
    "GATHER": {"": 5},
    "GELU": {"int16": 2},
    "GREATER": {"int8": 2},
    "GREATER_EQUAL": {"int8": 2, "int16": 3},
    "L2_NORMALIZATION": {"int8": 2},
    "LEAKY_RELU": {"int16": 2},
    "LESS": {"int8": 2, "int16": 3},
    "LESS_EQUAL": {"int8": 2},
    "LOGISTIC": _SIGNED,
    "LOG_SOFTMAX": {"int8": 2},
    "MAXIMUM": {"int8": 2, "int16": 4},
    "MAX_POOL_2D": _SIGNED,
    "MEAN": _SIGNED,
    "MINIMUM": {"int8": 2, "int16": 4},
    "MIRROR_PAD": _SIGNED,
    "MUL": {"int8": 3, "uint8": 3, "int16": 4},
    "NOT_EQUAL": {"int8": 2, "int16": 4},
    "PACK": _SIGNED,
    "PAD": {"int8": 4, "int16": 4},
    "PADV2": {"int8": 4, "int16": 4},
    "QUANTIZE": {"int8": 2, "uint8": 2, "int16": 2},
    "REDUCE_MAX": _SIGNED,
    "REDUCE_MIN": _SIGNED,
    "RELU": {"int8": 2, "uint8": 2, "int16": 3},
    "RELU6": _SIGNED,
    "RESIZE_BILINEAR": {"": 3, "int16": 4},
    "RESIZE_NEAREST_NEIGHBOR": {"": 3, "int16": 4},
    "REVERSE_V2": {"bool": 2, "int8": 3},
    "RSQRT": _SIGNED,
    "SELECT": {"int8": 2, "int16": 3},
    "SLICE": {"int8": 2, "int16": 4},
    "SOFTMAX": _SIGNED,
    "SPACE_TO_BATCH_ND": {"": 3, "int16": 4},
    "SPACE_TO_DEPTH": {"int8": 2},
    "SPLIT": {"int8": 2, "int32": 3, "int16": 4},
    "SPLIT_V": {"int8": 2},
    "SQUARED_DIFFERENCE": {"int8": 2},
    "STRIDED_SLICE": {"": 4},
    "SUB": {"int8": 3, "int16": 5},
    "SUM": {"int8": 2},
    "SVDF": {"int8": 3},
    "TANH": _SIGNED,
    "TRANSPOSE": {"": 4, "int16": 5},
    "TRANSPOSE_CONV": {"": 4},
    "UNPACK": {"int8": 2, "uint8": 2, "bool": 3, "int16": 4},
}
_GROUPED_CONV_VERSION = 6
_BIAS_TYPE_VERSIONS = {"CONV_2D": 8, "FULLY_CONNECTED": 11, "TRANSPOSE_CONV": 5}

# Position of the operand that decides the version, where it is not the first.
_DECIDING_OPERAND = {"SPLIT": 1, "SELECT": 1, "SELECT_V2": 1, "EMBEDDING_LOOKUP": 1}
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")

_LAST_DEPRECATED_CODE = 127  # operators from here on live in the 32-bit field only
_BUFFER_ALIGNMENT = 16  # `force_align` of Buffer.data in the schema


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int
    signature: tuple[int, ...] | None
    is_variable: bool
    data: bytes | None


@dataclass(frozen=True)
class _Operator:
    kind: str
    version: int
    inputs: list[int]
    outputs: list[int]
    intermediates: list[int]
    options: dict[str, Any] = field(default_factory=dict)


class ModelWriter:
    """Collects tensors and operators of one subgraph, then writes them as a .tflite file.

    Tensors are addressed by the name they were made with. Methods that make a tensor return that
    name; `stored_name` puts another one into the file (to write empty or repeated names).
    """

    def __init__(self, description: str = "") -> None:
        self._description = description
        self._tensors: dict[str, _Tensor] = {}
        self._indices: dict[str, int] = {}
        self._inputs: list[str] = []
        self._operators: list[_Operator] = []

    def input(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
        signature: Sequence[int] | None = None,
        stored_name: str | None = None,
    ) -> str:
        """Add a model input; parameters as in `tensor`. Returns its name."""
        self._inputs.append(name)
        return self.tensor(
            name,
            shape,
            dtype,
            scale=scale,
            zero_point=zero_point,
            signature=signature,
            stored_name=stored_name,
        )

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
        axis: int = 0,
        signature: Sequence[int] | None = None,
        stored_name: str | None = None,
    ) -> str:
        """Add a tensor that an operator computes.

        Parameters
        ----------
        name : str
            Unique in this writer.
        shape : sequence of int
        dtype : str
            int4, int8, uint8, int16, uint16, int32, uint32, int64, float16, float32 or bool.
        scale, zero_point : number or sequence, optional
            One, or one per index along `axis`. Without a scale the tensor is not quantized.
        axis : int
            The quantized dimension.
        signature : sequence of int, optional
            The shape with -1 where it is not fixed.
        stored_name : str, optional
            The name written to the file instead of `name`.

        Returns
        -------
        str
            `name`.

        Raises
        ------
        QInterpError
            Unknown dtype, repeated name, or scales and zero points that do not fit together.
        """
        return self._add(name, shape, dtype, scale, zero_point, axis, signature, stored_name)

    def variable(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        *,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
        stored_name: str | None = None,
    ) -> str:
        """Add a state tensor (of SVDF, LSTM), kept from run to run. Returns its name."""
        return self._add(
            name, shape, dtype, scale, zero_point, 0, None, stored_name, is_variable=True
        )

    def constant(
        self,
        name: str,
        array: ArrayLike,
        *,
        scale: float | Sequence[float] | NDArray[Any] | None = None,
        zero_point: int | Sequence[int] | NDArray[Any] = 0,
        axis: int = 0,
        dtype: str | None = None,
        stored_name: str | None = None,
    ) -> str:
        """Add a constant.

        Parameters
        ----------
        array : array_like
            The stored codes, not real values. Its own dtype is written, or `dtype`, which must
            then hold every value exactly; "int4" takes -8..7 and packs two to a byte.

        Returns
        -------
        str
            `name`. Other parameters and errors as in `tensor`; also a QInterpError for a value that
            `dtype` cannot hold.
        """
        values = np.asarray(array)
        dtype = values.dtype.name if dtype is None else dtype
        storage = _storage(dtype, name)
        stored = values.astype(storage)
        low, high = (-8, 7) if dtype == "int4" else (None, None)
        exact = np.issubdtype(storage, np.floating) or np.array_equal(stored, values)
        if not exact or (low is not None and bool(((values < low) | (values > high)).any())):
            raise QInterpError(
                f"constant {name!r}: values from {values.min()} to {values.max()} of type "
                f"{values.dtype} do not fit {dtype}"
            )
        data = _pack_int4(stored) if dtype == "int4" else np.ascontiguousarray(stored).tobytes()
        return self._add(
            name, values.shape, dtype, scale, zero_point, axis, None, stored_name, data=data
        )

    def operator(
        self,
        kind: str,
        inputs: Sequence[str | None],
        outputs: Sequence[str],
        *,
        version: int | None = None,
        intermediates: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Add an operator.

        Parameters
        ----------
        kind : str
            The schema's name: "CONV_2D".
        inputs : sequence of str or None
            Tensor names; None for an optional operand that is left out.
        outputs, intermediates : sequence of str
        version : int, optional
            By default one that suits the operand types and that LiteRT registers.
        **options
            Fields of the operator's options table, in the schema's spelling or in snake_case.
            Enumerations take the name of a value ("SAME", "RELU6", "INT32"). What is left out
            keeps the schema's default.

        Raises
        ------
        QInterpError
            Unknown operator, option, enumeration value or tensor; the message lists what is known.
        """
        known = _enum_values("BuiltinOperator")
        if kind not in known:
            raise QInterpError(f"unknown operator {kind!r}; known: {', '.join(sorted(known))}")
        table = _options_table(kind)
        fields = _option_fields(table[0]) if table else {}
        converted = {}
        for option, value in options.items():
            key = _folded(option)
            if key not in fields:
                spelled = ", ".join(_snake(camel) for camel in fields.values()) or "none"
                raise QInterpError(f"{kind} has no option {option!r}; it has: {spelled}")
            converted[fields[key]] = _option_value(kind, option, value)
        indices = [-1 if name is None else self._index(name) for name in inputs]
        if version is None:
            version = self._default_version(kind, inputs, options)
        self._operators.append(
            _Operator(
                kind,
                version,
                indices,
                [self._index(name) for name in outputs],
                [self._index(name) for name in intermediates],
                converted,
            )
        )

    def finish(self, outputs: Sequence[str], inputs: Sequence[str] | None = None) -> bytes:
        """Return the file's bytes; `outputs` (and `inputs`, if reordered) by name."""
        builder = flatbuffers.Builder(1024)
        codes = sorted({(operator.kind, operator.version) for operator in self._operators})
        code_offsets = [_write_operator_code(builder, *code) for code in codes]
        operators = [_write_operator(builder, one, codes) for one in self._operators]

        # Buffer 0 is the empty one, by the schema's convention.
        buffers = [_write_buffer(builder, None)]
        tensors = []
        for tensor in self._tensors.values():
            buffer = 0
            if tensor.data is not None:
                buffer = len(buffers)
                buffers.append(_write_buffer(builder, tensor.data))
            tensors.append(_write_tensor(builder, tensor, buffer))

        graph_inputs = self._inputs if inputs is None else inputs
        subgraph = _write_table(
            builder,
            "SubGraph",
            Tensors=_offsets(builder, tensors),
            Inputs=_int32s(builder, [self._index(name) for name in graph_inputs]),
            Outputs=_int32s(builder, [self._index(name) for name in outputs]),
            Operators=_offsets(builder, operators),
            Name=builder.CreateString("main"),
        )
        model = _write_table(
            builder,
            "Model",
            Version=3,
            OperatorCodes=_offsets(builder, code_offsets),
            Subgraphs=_offsets(builder, [subgraph]),
            Description=builder.CreateString(self._description),
            Buffers=_offsets(builder, buffers),
        )
        builder.Finish(model, file_identifier=b"TFL3")
        return bytes(builder.Output())

    def save(
        self, path: str | Path, outputs: Sequence[str], inputs: Sequence[str] | None = None
    ) -> None:
        """Write what `finish` returns to `path`."""
        Path(path).write_bytes(self.finish(outputs, inputs))

    def _add(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        scale: Any,
        zero_point: Any,
        axis: int,
        signature: Sequence[int] | None,
        stored_name: str | None,
        *,
        is_variable: bool = False,
        data: bytes | None = None,
    ) -> str:
        _storage(dtype, name)
        if name in self._tensors:
            raise QInterpError(f"tensor {name!r} is there already; give another name")
        scales = () if scale is None else tuple(float(s) for s in np.atleast_1d(scale))
        zero_points = tuple(int(z) for z in np.atleast_1d(zero_point)) if scales else ()
        if len(zero_points) == 1:
            zero_points *= len(scales)
        if len(zero_points) != len(scales):
            raise QInterpError(
                f"tensor {name!r}: {len(scales)} scales but {len(zero_points)} zero points"
            )
        if len(scales) > 1 and (axis >= len(shape) or shape[axis] != len(scales)):
            raise QInterpError(
                f"tensor {name!r}: {len(scales)} scales do not fit axis {axis} of shape "
                f"{tuple(shape)}"
            )
        self._indices[name] = len(self._tensors)
        self._tensors[name] = _Tensor(
            name if stored_name is None else stored_name,
            tuple(int(size) for size in shape),
            dtype,
            scales,
            zero_points,
            axis,
            None if signature is None else tuple(int(size) for size in signature),
            is_variable,
            data,
        )
        return name

    def _index(self, name: str) -> int:
        try:
            return self._indices[name]
        except KeyError:
            known = ", ".join(self._tensors)
            raise QInterpError(f"no tensor {name!r}; there are: {known}") from None

    def _default_version(
        self, kind: str, inputs: Sequence[str | None], options: dict[str, Any]
    ) -> int:
        operands = [None if name is None else self._tensors[name] for name in inputs]
        position = _DECIDING_OPERAND.get(kind, 0)
        first = operands[position] if position < len(operands) else None
        deciding = first.dtype if first else ""
        if kind in _WEIGHTED:
            weights = operands[1] if len(operands) > 1 else None
            if "quantizedbiastype" in map(_folded, options):
                return _BIAS_TYPE_VERSIONS[kind]
            if weights and weights.dtype == "int4":
                deciding = "int4"
            elif kind == "CONV_2D" and first and weights and first.shape[-1] != weights.shape[-1]:
                return _GROUPED_CONV_VERSION
        versions = _VERSIONS.get(kind, {})
        return versions.get(deciding, versions.get("", 1))


def _storage(dtype: str, name: str) -> Any:
    if dtype not in _STORAGE:
        raise QInterpError(f"tensor {name!r}: unknown type {dtype!r}; known: {', '.join(_STORAGE)}")
    return _STORAGE[dtype]


def _pack_int4(values: NDArray[Any]) -> bytes:
    nibbles = values.astype(np.uint8).reshape(-1) & 0xF
    padded = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    packed: NDArray[np.uint8] = padded[0::2] | (padded[1::2] << 4)
    return packed.tobytes()


# --- the schema, read off the generated package --------------------------------------------------


def _module(name: str) -> Any:
    return importlib.import_module(f"tflite.{name}")


@functools.cache
def _enum_values(name: str) -> dict[str, int]:
    members = vars(getattr(_module(name), name))
    return {key: value for key, value in members.items() if key.isupper()}


def _folded(name: str) -> str:
    """Return `name` without underscores and case: one key for both spellings of an option."""
    return name.replace("_", "").lower()


def _snake(camel: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in camel).lstrip("_")


@functools.cache
def _options_table(kind: str) -> tuple[str, str, int] | None:
    """Return the options table of an operator: its name, its union and its number in the union."""
    for union in ("BuiltinOptions", "BuiltinOptions2"):
        members = vars(getattr(_module(union), union))
        wanted = _folded(_SHARED_OPTIONS.get(kind, kind + "Options"))
        for name, number in members.items():
            if name.lower() == wanted:
                return name, union, number
    return None


@functools.cache
def _option_fields(table: str) -> dict[str, str]:
    """Return the fields of an options table, CamelCase by folded name."""
    prefix = f"{table}Add"
    names = [f.removeprefix(prefix) for f in vars(_module(table)) if f.startswith(prefix)]
    return {_folded(name): name for name in names}


def _option_value(kind: str, option: str, value: Any) -> Any:
    """Return a number or a list of numbers for what the caller gave."""
    if not isinstance(value, str):
        return value
    enum = _OPTION_ENUMS.get(_folded(option))
    if enum is None:
        raise QInterpError(f"{kind}: option {option!r} is a number, not {value!r}")
    values = _enum_values(enum)
    if value.upper() not in values:
        raise QInterpError(f"{kind}: {option}={value!r} is not one of {', '.join(values)}")
    return values[value.upper()]


# --- flatbuffers ---------------------------------------------------------------------------------


def _write_table(builder: flatbuffers.Builder, table: str, **fields: Any) -> int:
    """Write a table; its children (given as offsets) are written already."""
    functions = vars(_module(table))
    functions[f"{table}Start"](builder)
    for name, value in fields.items():
        functions[f"{table}Add{name}"](builder, value)
    offset: int = functions[f"{table}End"](builder)
    return offset


def _int32s(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    offset: int = builder.CreateNumpyVector(np.asarray(values, np.int32))
    return offset


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    vector: int = builder.EndVector()
    return vector


def _write_buffer(builder: flatbuffers.Builder, data: bytes | None) -> int:
    if data is None:
        return _write_table(builder, "Buffer")
    builder.StartVector(1, len(data), _BUFFER_ALIGNMENT)
    builder.head = head = builder.Head() - len(data)
    builder.Bytes[head : head + len(data)] = data
    return _write_table(builder, "Buffer", Data=builder.EndVector())


def _write_tensor(builder: flatbuffers.Builder, tensor: _Tensor, buffer: int) -> int:
    fields: dict[str, Any] = {
        "Shape": _int32s(builder, tensor.shape),
        "Type": _enum_values("TensorType")[tensor.dtype.upper()],
        "Buffer": buffer,
        "Name": builder.CreateString(tensor.name),
        "IsVariable": tensor.is_variable,
    }
    if tensor.scale:
        fields["Quantization"] = _write_table(
            builder,
            "QuantizationParameters",
            Scale=builder.CreateNumpyVector(np.asarray(tensor.scale, np.float32)),
            ZeroPoint=builder.CreateNumpyVector(np.asarray(tensor.zero_point, np.int64)),
            QuantizedDimension=tensor.axis,
        )
    if tensor.signature is not None:
        fields["ShapeSignature"] = _int32s(builder, tensor.signature)
    return _write_table(builder, "Tensor", **fields)


def _write_operator_code(builder: flatbuffers.Builder, kind: str, version: int) -> int:
    code = _enum_values("BuiltinOperator")[kind]
    return _write_table(
        builder,
        "OperatorCode",
        DeprecatedBuiltinCode=min(code, _LAST_DEPRECATED_CODE),
        Version=version,
        BuiltinCode=code,
    )


def _write_operator(
    builder: flatbuffers.Builder, operator: _Operator, codes: list[tuple[str, int]]
) -> int:
    fields: dict[str, Any] = {
        "OpcodeIndex": codes.index((operator.kind, operator.version)),
        "Inputs": _int32s(builder, operator.inputs),
        "Outputs": _int32s(builder, operator.outputs),
    }
    if operator.intermediates:
        fields["Intermediates"] = _int32s(builder, operator.intermediates)
    table = _options_table(operator.kind)
    if table is not None:
        name, union, number = table
        options = {
            key: _vector(builder, value) if isinstance(value, Sequence | np.ndarray) else value
            for key, value in operator.options.items()
        }
        fields[union] = _write_table(builder, name, **options)
        fields[f"{union}Type"] = number
    return _write_table(builder, "Operator", **fields)


def _vector(builder: flatbuffers.Builder, values: Any) -> int:
    array = np.asarray(values)
    element = np.float32 if np.issubdtype(array.dtype, np.floating) else np.int32
    offset: int = builder.CreateNumpyVector(array.astype(element))
    return offset
