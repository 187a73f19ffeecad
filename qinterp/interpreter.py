"""Executes a graph under a scheme, node by node, telling hooks what each one gave."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from os import cpu_count
from threading import Lock
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from qinterp.capture import Capture, Event, Hook, hash_arrays
from qinterp.errors import InputError, ModelFormatError, QInterpError, UnsupportedOperatorError
from qinterp.ir import Call, Graph, Node, Tensor, UnknownValue
from qinterp.ir.tensor import MAX_COMPUTED, Array
from qinterp.ops import NO_NOTES, OPERATORS, Notes
from qinterp.ops._chain import Chain, pieces
from qinterp.ops._operator import Run
from qinterp.scheme import Scheme
from qinterp.schemes_io import load_scheme

Inputs = Mapping[str, npt.ArrayLike] | npt.ArrayLike
_CACHED_SHAPES = 8
_SLICE = 2e-3  # seconds of work that a thread is given at a time
_MOST_TOGETHER = 16
_TOO_SHORT = 5e-5  # seconds of a run that no thread is worth
_UNLIKE = np.array(object())  # equal to no array
NOTES = ("accumulator", "multiplier", "shift")
"""The intermediates that operators can note."""
_NOTHING: Mapping[str, Array] = MappingProxyType({})


@dataclass
class Result:
    """What one run gave.

    Attributes
    ----------
    outputs : the graph's outputs by tensor name.
    tensors : every captured tensor by name (a :class:`Capture`); empty unless asked for.
    notes : node name to its intermediates, those that were asked for.
    replaced : tensors that a hook replaced.
    seconds : wall time of the run.
    """

    outputs: dict[str, Array]
    tensors: Capture
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True)
class Step:
    """One prepared node.

    ``run`` is None where a shape depends on a value: the node is then prepared while it runs.
    ``outputs`` are there where every operand is constant, so that the node ran once already.
    ``last_uses`` are the computed tensors that no later node reads.
    """

    index: int
    node: Node
    call: Call | None = None
    recipe: str = ""
    scheme: str = ""
    run: Run | None = None
    outputs: tuple[Array, ...] | None = None
    last_uses: tuple[str, ...] = ()
    stateful: bool = False


class Plan(list[Step]):
    """Prepared nodes; those of a plan that is ``kept`` are also made into chains when asked."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        super().__init__(steps)
        self.kept = False
        self._pieces: dict[bool, list[Step | Chain]] = {}

    def pieces(self, outputs: Collection[str], *, keep_all: bool) -> list[Step | Chain]:
        """See :func:`qinterp.ops._chain.pieces`."""
        made = self._pieces.get(keep_all)
        if made is None:
            made = self._pieces[keep_all] = pieces(self, outputs, keep_all=keep_all)
        return made


@dataclass(frozen=True)
class PlanEntry:
    """How one node is computed.

    Attributes
    ----------
    node, kind, scheme, recipe : names.
    path : "any order" where every order of accumulation gives the same bits, "in order" where
        the backend's own is kept, "elementwise" without an accumulator, "constant" for a node
        that ran once already, "deferred" where a shape depends on a value.
    reason : why that path.
    headroom : bits that the proven bound of the accumulator leaves unused; None without a proof.
    """

    node: str
    kind: str
    scheme: str
    recipe: str
    path: str
    reason: str
    headroom: int | None = None


class Interpreter:
    """A graph prepared to run under a scheme; reentrant.

    Parameters
    ----------
    graph : from :func:`qinterp.load`.
    scheme : a name, a path to a .toml, or a Scheme.

    Raises
    ------
    UnsupportedOperatorError : the scheme has no rule for some operators; all of them are listed.
    ModelFormatError : operands that do not fit their operator.
    """

    def __init__(self, graph: Graph, scheme: str | Scheme = "tflite-reference") -> None:
        self.graph = graph
        self.scheme = load_scheme(scheme)
        self._plans: dict[tuple[tuple[int, ...], ...], Plan] = {}
        self._lock = Lock()
        self._last_uses = _find_last_uses(graph)
        self._steps = self._plan({})
        self._steps.kept = True
        self._fixed = {n for n, t in graph.tensors.items() if t.is_constant}
        self._fixed |= {n for s in self._steps if s.outputs is not None for n in s.node.outputs}
        self._constants: dict[str, Any] = {
            n: t.data for n, t in graph.tensors.items() if t.data is not None
        }
        self._constants[""] = None  # how an operand is called that is left out
        self._variables = [t for t in graph.tensors.values() if t.variable]

    # ---- preparing ------------------------------------------------------------------------

    def _steps_for(self, given: Mapping[str, Array]) -> Plan:
        """The nodes prepared for the tensors given, from the cache where that is enough."""
        tensors = self.graph.tensors
        if len(given) == len(self.graph.inputs) and all(
            n in given and given[n].shape == tensors[n].shape for n in self.graph.inputs
        ):
            return self._steps
        shapes = {n: given[n].shape if n in given else tensors[n].shape for n in self.graph.inputs}
        others = {
            n: v
            for n, v in given.items()
            if n not in shapes and not np.array_equal(v, self._constants.get(n, _UNLIKE))
        }
        if any(n in self._fixed or v.shape != tensors[n].shape for n, v in others.items()):
            return self._plan_for_inputs(shapes, given)
        if all(shape == tensors[n].shape for n, shape in shapes.items()):
            return self._steps
        key = tuple(shapes.values())
        steps = self._plans.get(key)
        if steps is None:
            steps = self._plan_for_inputs(shapes)
            with self._lock:
                if len(self._plans) >= _CACHED_SHAPES:
                    del self._plans[next(iter(self._plans))]
                self._plans[key] = steps
                steps.kept = True
        return steps

    def _plan_for_inputs(
        self, shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, Array] = _NOTHING
    ) -> Plan:
        try:
            return self._plan(shapes, given)
        except ModelFormatError as error:
            raise InputError(f"the inputs' shapes do not fit the model: {error}") from error

    def _plan(
        self, shapes: Mapping[str, tuple[int, ...]], given: Mapping[str, Array] = _NOTHING
    ) -> Plan:
        """Every node prepared; with ``given``, those that these tensors and the rest allow."""
        graph = self.graph
        specs = dict(graph.tensors)
        specs |= {n: specs[n].with_shape(shape) for n, shape in shapes.items()}
        specs |= {n: specs[n].with_shape(value.shape) for n, value in given.items()}
        known: dict[str, Array] = {name: t.data for name, t in specs.items() if t.data is not None}
        if given:
            known |= {n: value for n, value in given.items() if n in self._fixed}
        at_hand = {n for n, t in specs.items() if t.is_constant or t.variable} | given.keys()
        steps = Plan()
        missing: list[str] = []
        unknown: set[str] = set()
        for index, node in enumerate(graph.nodes):
            step = Step(index, node, last_uses=self._last_uses[index])
            if given:
                if given.keys() >= set(node.outputs) or not at_hand.issuperset(
                    filter(None, node.inputs)
                ):
                    continue
                at_hand.update(node.outputs)
            if not unknown.intersection(node.inputs):
                try:
                    self._prepare(step, specs, known, given, check_shapes=not (shapes or given))
                except UnknownValue:
                    step = Step(index, node, last_uses=self._last_uses[index])
                except UnsupportedOperatorError as error:
                    missing.append(str(error))
                    continue
            if step.call is None:
                unknown.update(node.outputs)
            steps.append(step)
        if missing:
            raise UnsupportedOperatorError("; ".join(dict.fromkeys(missing)))
        return steps

    def _prepare(self, step: Step, *arguments: Any, check_shapes: bool = False) -> None:
        """Prepare a node; what no operator foresaw is the model's fault, and is told with its node.

        Operators check what they are given, but a damaged file finds more ways to be impossible
        than anybody lists.
        """
        try:
            self._prepare_unchecked(step, *arguments, check_shapes=check_shapes)
        except (ArithmeticError, ValueError, LookupError, MemoryError) as error:
            where = f"node {step.node.name!r} ({step.node.kind})"
            raise ModelFormatError(f"{where} cannot be prepared: {error!r}") from error

    def _prepare_unchecked(
        self,
        step: Step,
        specs: dict[str, Tensor],
        known: dict[str, Array],
        given: Mapping[str, Array] = _NOTHING,
        *,
        check_shapes: bool = False,
    ) -> None:
        """Infer shapes into ``specs``, choose the recipe, prepare; run what is constant."""
        node = step.node
        operator = OPERATORS[node.kind]
        inputs = [specs[name] if name else None for name in node.inputs]
        names = operator.names(len(inputs))

        def call(outputs: Sequence[Tensor], policy: Any = None, params: Any = None) -> Call:
            return Call(node, names, inputs, outputs, known, policy, params)

        filed = [specs[name] for name in node.outputs]
        outputs = operator.infer(call(filed))
        if check_shapes:
            _check_shapes(call(filed), filed, outputs)
        for tensor in outputs:
            if math.prod(tensor.shape) > MAX_COMPUTED:
                call(filed).malformed(
                    f"output {tensor.describe()} has more than {MAX_COMPUTED} elements"
                )
        self._choose(step, lambda *chosen: call(outputs, *chosen))
        specs |= {t.name: t for t in outputs if t.name not in given}
        # the value of a SHAPE is known before its input is
        constant = all(name in known for name in node.inputs if name)
        if (constant or operator.reads_shapes_only) and not operator.state:
            values = [known.get(name) if name else None for name in node.inputs]
            step.outputs = tuple(_read_only(v) for v in self._run_step(step, values, NO_NOTES))
            results = zip(node.outputs, step.outputs, strict=True)
            known |= {name: value for name, value in results if name not in given}

    def _choose(self, step: Step, call: Callable[..., Call]) -> None:
        """Prepare a node by its scheme's recipe, or by that of the first fallback that has one."""
        operator, place = OPERATORS[step.node.kind], call().where("")
        scheme: Scheme | None = self.scheme.for_node(step.node.name)
        refusals: list[str] = []
        while scheme is not None:
            try:
                recipe, choice, policy = operator.choose(call(), scheme)
                step.call = call(policy, choice.params)
                step.stateful = bool(operator.state)
                step.run = recipe.prepare(step.call)
            except UnsupportedOperatorError as error:
                why = str(error).removeprefix(place)
                named = why if repr(scheme.name) in why else f"scheme {scheme.name!r}: {why}"
                refusals.append(named)
                scheme = scheme.fallback
            else:
                step.recipe, step.scheme = recipe.name, scheme.name
                return
        raise UnsupportedOperatorError(place + ", and its fallback: ".join(refusals))

    # ---- running --------------------------------------------------------------------------

    def run(
        self,
        inputs: Inputs,
        hooks: Iterable[Hook] = (),
        capture: bool | str | Iterable[str] | Capture = False,
        notes: Iterable[str] = (),
    ) -> Result:
        """Run once.

        Parameters
        ----------
        inputs : arrays by tensor name, or one array for a graph with one input. Any tensor may
            be named; nodes whose outputs are all given are skipped.
        hooks : called with an :class:`Event` after every node, in order; a dict they return
            replaces outputs of that node.
        capture : keep tensors: all, those that match patterns, or as a Capture says.
        notes : intermediates to keep: "accumulator", "multiplier", "shift".

        Raises
        ------
        InputError : an unknown name, a wrong type or shape, or a missing input.
        QInterpError : a node that failed, by name.
        """
        started = time.perf_counter()
        kept = _as_capture(capture)
        if kept is not None:
            kept.clear()
        values = self._check_inputs(inputs)
        given = frozenset(values)
        steps = self._steps_for(values)
        wanted = (notes,) if isinstance(notes, str) else tuple(notes)
        unknown = [note for note in wanted if note not in NOTES]
        if unknown:
            raise InputError(f"no notes {', '.join(map(repr, unknown))}; known: {', '.join(NOTES)}")
        result = Result({}, kept if kept is not None else Capture(), {})
        taken, replaced = dict(values), result.replaced
        self._execute(steps, values, given, tuple(hooks), wanted, result, kept)
        result.outputs = {n: values[n] for n in self.graph.outputs if n in values}
        if kept is not None:
            kept.record = lambda: self._record(taken, replaced)  # not the result: no cycle
        result.seconds = time.perf_counter() - started
        return result

    def _execute(
        self,
        steps: Plan,
        values: dict[str, Array],
        given: frozenset[str],
        hooks: Sequence[Callable[[Event], Any]],
        wanted: tuple[str, ...],
        result: Result,
        kept: Capture | None,
    ) -> None:
        self._supply_constants(values)
        partial = given != frozenset(self.graph.inputs)
        ran = 0
        notes = NO_NOTES
        todo: Sequence[Step | Chain] = steps
        if steps.kept and not (partial or wanted or hooks) and (kept is None or kept.keeps_all):
            todo = steps.pieces(self.graph.outputs, keep_all=kept is not None)
        for step in todo:
            if isinstance(step, Chain):
                self._run_chain(step, values, kept)
                ran += len(step.links)
                continue
            node = step.node
            if partial and (
                given.issuperset(node.outputs) or any(t not in values for t in node.inputs)
            ):
                continue
            if wanted:
                notes = Notes(wanted)
            last_uses = step.last_uses
            outputs: Sequence[Array] | None = step.outputs
            if outputs is None:
                operands = [values[t] for t in node.inputs]
                if step.run is None:
                    step = self.step_for(node, operands)
                outputs = self._run_step(step, operands, notes)
                if step.stateful:
                    outputs = self._update_state(step, outputs, values)
            for name, value in zip(node.outputs, outputs, strict=True):
                if not partial or name not in given:
                    values[name] = _read_only(value)
            ran += 1
            if notes:
                result.notes[node.name] = dict(notes)
            if hooks:
                self._tell(step, values, notes, hooks, result)
            if kept is not None:
                kept.keep(node, {name: values[name] for name in node.outputs}, notes)
            else:
                for name in last_uses:
                    values.pop(name, None)
        if not ran and steps:
            raise InputError(
                "no node can run from the tensors given: " + ", ".join(map(repr, sorted(given)))
            )

    def _run_chain(self, chain: Chain, values: dict[str, Array], kept: Capture | None) -> None:
        try:
            made, views = chain(values)
        except MemoryError as error:
            raise chain.at_fault(error).failed(MemoryError()) from error
        values.update(made)
        if kept is not None:
            kept.keep_later(views, chain.first_outputs)
            return
        for name in chain.last_uses:
            values.pop(name, None)

    def _run_step(self, step: Step, operands: Sequence[Any], notes: Notes) -> Sequence[Array]:
        assert step.run is not None
        assert step.call is not None
        try:
            return step.run(operands, notes)
        except (ArithmeticError, ValueError, MemoryError) as error:
            raise step.call.failed(error) from error

    def _update_state(
        self, step: Step, outputs: Sequence[Array], values: dict[str, Array]
    ) -> Sequence[Array]:
        count = len(step.node.outputs)
        state = OPERATORS[step.node.kind].state
        for operand, value in zip(state, outputs[count:], strict=True):
            assert step.call is not None
            tensor = step.call.get(operand)
            if tensor is not None:
                values[tensor.name] = _read_only(value)
        return outputs[:count]

    def _tell(
        self,
        step: Step,
        values: dict[str, Array],
        notes: Notes,
        hooks: Sequence[Callable[[Event], Any]],
        result: Result,
    ) -> None:
        names = step.node.outputs
        for hook in hooks:
            event = Event(
                step.index,
                step.node,
                MappingProxyType({n: values[n] for n in names}),
                MappingProxyType(notes),
            )
            replaced = hook(event)
            if not (replaced is None or isinstance(replaced, Mapping)):
                raise InputError(
                    f"a hook at node {step.node.name!r} must return None or arrays by tensor name, "
                    f"got {type(replaced).__name__}"
                )
            for name, value in (replaced or {}).items():
                if name not in names:
                    raise InputError(
                        f"a hook replaced {name!r} at node {step.node.name!r}, whose outputs are "
                        + ", ".join(map(repr, names))
                    )
                old = values[name]
                new = np.asarray(value)
                if new.shape != old.shape or new.dtype != old.dtype:
                    raise InputError(
                        f"a hook replaced {name!r} by {new.dtype}{list(new.shape)}, "
                        f"wanted {old.dtype}{list(old.shape)}"
                    )
                values[name] = _read_only(np.array(new))
                result.replaced.append(name)

    @property
    def plan(self) -> list[PlanEntry]:
        """How each node is computed, in execution order."""
        return [_plan_entry(step) for step in self._steps]

    # ---- single nodes -----------------------------------------------------------------------

    def input_codes(self, inputs: Inputs) -> dict[str, Array]:
        """``inputs`` by tensor name as the graph takes them: real values turned into codes."""
        return self._check_inputs(inputs)

    def operands_of(self, node: Node, inputs: Inputs, result: Result) -> list[Array | None]:
        """The operand arrays that ``node`` had in a run that captured everything."""
        values = self._check_inputs(inputs)
        self._supply_constants(values)
        known = {**values, **result.tensors}
        missing = [name for name in node.inputs if name and name not in known]
        if missing:
            raise InputError(
                f"node {node.name!r} ({node.kind}) cannot be reached from the tensors given: "
                f"{', '.join(map(repr, missing))} missing"
            )
        return [known[name] if name else None for name in node.inputs]

    def step_for(self, node: Node, operands: Sequence[Array | None]) -> Step:
        """``node`` prepared for operands of these shapes and, where they decide, values."""
        values = {
            name: value
            for name, value in zip(node.inputs, operands, strict=True)
            if name and value is not None
        }
        constants = {n: v for n, v in values.items() if n in self._fixed}
        step = Step(self.graph.nodes.index(node), node)
        try:
            self._prepare(step, self._specs(values), constants)
        except UnknownValue:
            self._prepare(step, self._specs(values), dict(values))
        return step

    def run_node(
        self, node: Node, operands: Sequence[Array | None], notes: Iterable[str] = ()
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """One node on its own: outputs by tensor name, and the notes asked for."""
        operands = [None if v is None else np.asarray(v, order="C") for v in operands]
        step = self.step_for(node, operands)
        kept = Notes(notes)
        outputs = self._run_step(step, operands, kept)[: len(node.outputs)]
        return dict(zip(node.outputs, outputs, strict=True)), dict(kept)

    # ---- many inputs ------------------------------------------------------------------------

    def run_many(
        self, inputs: Iterable[Inputs], *, workers: int | None = None, **options: Any
    ) -> Iterator[Result]:
        """Run each of ``inputs`` on all cores; results in order, bounded look-ahead.

        Parameters
        ----------
        inputs : what :meth:`run` takes, one after the other.
        workers : threads, by default one a core.
        options : as for :meth:`run`; hooks are then called from several threads, and every result
            has a capture of its own, with the filters of the one given.
        """
        if workers is not None and workers < 1:
            raise InputError(f"workers must be at least 1, got {workers}")
        return self._run_many(inputs, workers or cpu_count() or 1, options)

    def _run_many(
        self, inputs: Iterable[Inputs], count: int, options: Mapping[str, Any]
    ) -> Iterator[Result]:
        def take(item: Inputs) -> Inputs | QInterpError:
            # at once: the caller may refill its buffer for the next item
            try:
                return self._check_inputs(item)
            except QInterpError as error:
                return error

        def several(items: list[Inputs | QInterpError]) -> list[Result | Exception]:
            results: list[Result | Exception] = []
            if not options and len(items) > 1:
                results += self._run_together(items)
                if results:
                    return results
            for item in items:
                try:
                    if isinstance(item, QInterpError):
                        raise item
                    kept = options.get("capture")
                    own = {"capture": kept.like()} if isinstance(kept, Capture) else {}
                    results.append(self.run(item, **{**options, **own}))
                except Exception as error:  # raised in its place among the results
                    return [*results, error]
            return results

        pending: deque[Future[list[Result | Exception]]] = deque()
        done, seconds = 0, _SLICE

        def together() -> int:
            """So many that handing them to a thread costs little beside running them."""
            return min(max(int(_SLICE / seconds), 1), _MOST_TOGETHER, 1 + done)

        def submit(items: list[Inputs | QInterpError]) -> Future[list[Result | Exception]]:
            if seconds > _TOO_SHORT:
                return pool.submit(several, items)
            future: Future[list[Result | Exception]] = Future()
            future.set_result(several(items))
            return future

        def finished() -> Iterator[Result]:
            nonlocal done, seconds
            for result in pending.popleft().result():
                if isinstance(result, Exception):
                    raise result
                done, seconds = done + 1, max(result.seconds, 1e-9)
                yield result

        with ThreadPoolExecutor(count) as pool:
            try:
                items: list[Inputs | QInterpError] = []
                for item in inputs:
                    items.append(take(item))
                    if len(items) < together():
                        continue
                    pending.append(submit(items))
                    items = []
                    if len(pending) > count + 1:
                        yield from finished()
                if items:
                    pending.append(submit(items))
                while pending:
                    yield from finished()
            finally:
                for future in pending:
                    future.cancel()

    def _run_together(self, items: Sequence[Inputs | QInterpError]) -> list[Result]:
        """Results of inputs of the file's shapes, if one chain is all that they take; else none."""
        parts = self._steps.pieces(self.graph.outputs, keep_all=False)
        if len(parts) != 1 or not isinstance(parts[0], Chain):
            return []
        tensors, names = self.graph.tensors, self.graph.inputs
        if not all(
            isinstance(item, dict)
            and len(item) == len(names)
            and all(n in item and item[n].shape == tensors[n].shape for n in names)
            for item in items
        ):
            return []
        started = time.perf_counter()
        inputs = [dict(item) for item in items if isinstance(item, dict)]
        for values in inputs:
            self._supply_constants(values)
        try:
            made = parts[0].many(inputs)
        except MemoryError:  # fewer at a time need less
            return []
        seconds = (time.perf_counter() - started) / len(made)
        return [
            Result(
                {n: outputs[n] if n in outputs else values[n] for n in self.graph.outputs},
                Capture(),
                {},
                seconds=seconds,
            )
            for outputs, values in zip(made, inputs, strict=True)
        ]

    # ---- inputs ---------------------------------------------------------------------------

    def _check_inputs(self, inputs: Inputs) -> dict[str, Array]:
        graph = self.graph
        if not isinstance(inputs, Mapping):
            if len(graph.inputs) != 1:
                raise InputError(
                    f"the graph has {len(graph.inputs)} inputs ({', '.join(graph.inputs)}): "
                    "give a dict"
                )
            inputs = {graph.inputs[0]: inputs}
        values: dict[str, Array] = {}
        for address, value in inputs.items():
            if not isinstance(address, str):
                raise InputError(f"inputs go by tensor name, got {address!r}")
            tensor = graph.find_tensor(address)
            if tensor.name in values:
                raise InputError(f"tensor {tensor.name!r} is given twice")
            try:
                array = np.asarray(value)
            except ValueError as error:
                raise InputError(f"input {tensor.describe()}: {error}") from None
            values[tensor.name] = self._check_input(tensor, array)
        absent = [n for n in graph.inputs if n not in values]
        if absent and set(values) <= set(graph.inputs):
            raise InputError(
                "missing input "
                + ", ".join(graph.tensors[n].describe() for n in absent)
                + (f"; given: {', '.join(map(repr, values))}" if values else "")
            )
        return values

    def _check_input(self, tensor: Tensor, value: Array) -> Array:
        may_resize = tensor.dynamic + ((0,) if tensor.name in self.graph.inputs else ())
        fits = len(value.shape) == len(tensor.shape) and all(
            have == want or axis in may_resize
            for axis, (have, want) in enumerate(zip(value.shape, tensor.shape, strict=True))
        )
        if not fits and self._computed(tensor):
            fits = len(value.shape) == len(tensor.shape) and value.shape[1:] == tensor.shape[1:]
        if not fits:
            raise InputError(
                f"input {tensor.describe()}: got an array of shape {list(value.shape)}"
            )
        if value.dtype == tensor.numpy_dtype:
            if tensor.dtype == "int4" and (value.min(initial=0) < -8 or value.max(initial=0) > 7):
                raise InputError(f"input {tensor.describe()}: codes must be in -8..7")
            # a copy: the caller may use the buffer again while results still refer to it
            return _read_only(np.array(value, order="C"))
        if tensor.quantization and value.dtype.kind == "f":
            return _read_only(self._quantize(tensor, value))
        if tensor.is_float and value.dtype.kind == "f":
            with np.errstate(over="ignore"):  # to infinity
                return _read_only(np.array(value, tensor.numpy_dtype, order="C"))
        raise InputError(f"input {tensor.describe()}: got an array of {value.dtype}")

    def _computed(self, tensor: Tensor) -> bool:
        return self.graph.producer(tensor.name) is not None

    def _quantize(self, tensor: Tensor, value: Array) -> Array:
        """Real values as codes of ``tensor``, as the scheme's quantize operator does it."""
        operator = OPERATORS["quantize"]
        if np.isnan(value).any():
            raise InputError(f"input {tensor.describe()}: has NaN, which no code stands for")
        real = Tensor(f"{tensor.name} (real)", value.shape, "float32")
        node = Node(f"quantize {tensor.name!r}", "quantize", (real.name,), (tensor.name,))
        output = tensor.with_shape(value.shape)
        call = Call(node, operator.operands, [real], [output], {})
        scheme: Scheme | None = self.scheme
        while True:
            assert scheme is not None
            try:
                recipe, choice, policy = operator.choose(call, scheme)
                break
            except UnsupportedOperatorError:
                if scheme.fallback is None:
                    raise
                scheme = scheme.fallback
        call = Call(node, operator.operands, [real], [output], {}, policy, choice.params)
        with np.errstate(all="ignore"):  # what is too large becomes infinity
            return recipe.prepare(call)([np.array(value, np.float32, order="C")], NO_NOTES)[0]

    def _supply_constants(self, values: dict[str, Array]) -> None:
        given = dict(values)
        values |= self._constants
        for tensor in self._variables:
            values[tensor.name] = tensor.initial()
        values |= given

    def _specs(self, values: Mapping[str, Array]) -> dict[str, Tensor]:
        specs = dict(self.graph.tensors)
        specs |= {n: specs[n].with_shape(v.shape) for n, v in values.items()}
        return specs

    def _record(self, inputs: Mapping[str, Array], replaced: list[str]) -> dict[str, Any]:
        from qinterp import __version__

        return {
            "qinterp": __version__,
            "model": {"name": self.graph.name, "sha256": self.graph.sha256},
            "scheme": {"name": self.scheme.name, "sha256": self.scheme.sha256},
            "inputs": {"names": sorted(inputs), "sha256": hash_arrays(inputs)},
            "replaced": replaced,
        }


def run(
    graph: Graph,
    inputs: Inputs,
    scheme: str | Scheme = "tflite-reference",
    capture: bool | str | Iterable[str] | Capture = False,
) -> Result:
    """Run ``graph`` once under ``scheme``; see :class:`Interpreter`."""
    return Interpreter(graph, scheme).run(inputs, capture=capture)


def _find_last_uses(graph: Graph) -> list[tuple[str, ...]]:
    """For each node, the computed tensors that neither a later node nor the caller reads."""
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        last |= dict.fromkeys((*node.inputs, *node.outputs), index)
    used: list[list[str]] = [[] for _ in graph.nodes]
    for name, index in last.items():
        if name and not graph.tensors[name].is_constant and name not in graph.outputs:
            used[index].append(name)
    return [tuple(names) for names in used]


def _plan_entry(step: Step) -> PlanEntry:
    node, names = step.node, (step.node.name, step.node.kind, step.scheme, step.recipe)
    if step.outputs is not None:
        return PlanEntry(*names, "constant", "every operand is known")
    if step.call is None:
        return PlanEntry(node.name, node.kind, "", "", "deferred", "a shape depends on a value")
    proof = getattr(step.run, "proof", None)
    if proof is None:
        return PlanEntry(*names, "elementwise", "no accumulator")
    return PlanEntry(*names, proof.path, proof.reason, proof.headroom)


def _as_capture(capture: bool | str | Iterable[str] | Capture) -> Capture | None:
    if isinstance(capture, Capture):
        return capture
    if isinstance(capture, bool):
        return Capture() if capture else None
    return Capture(only=capture)


def _check_shapes(call: Call, filed: Sequence[Tensor], inferred: Sequence[Tensor]) -> None:
    for tensor, found in zip(filed, inferred, strict=True):
        if tensor.shape != found.shape and not tensor.dynamic and tensor.shape:
            raise ModelFormatError(
                call.where(
                    f"the file says {tensor.describe()}, the operator gives {list(found.shape)}"
                )
            )


def _read_only(value: Array) -> Array:
    """As the next node takes it: kernels read rows, and a movement may give a view across them."""
    value = np.asarray(value, order="C")  # numpy makes scalars of arrays without dimensions
    value.setflags(write=False)
    return value


__all__ = ["Interpreter", "QInterpError", "Result", "Step", "run"]
