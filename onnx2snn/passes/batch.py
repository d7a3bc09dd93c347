"""The batch is free, everything else has a size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx2snn.passes.base import Array, Pass, as_array
from onnx2snn.passes.fold_constants import fold
from onnx2snn.passes.graph import (
    BATCH,
    constant,
    dims,
    input_at,
    label,
    may_copy,
    rewritten_constant,
)
from onnx2snn.passes.infer_shapes import infer
from onnx2snn.passes.probe import PROBES, SEED, feeds
from onnx2snn.passes.protos import to_proto
from onnx2snn_runtime.errors import Finding, Onnx2SnnError, UnsupportedError, UsageError
from onnx2snn_runtime.files.inference import refuse_impossible_sizes

EXAMPLE_SIZE = 224
TOLERANCE = 1e-3
ROUNDINGS = 1e-6  # relative change of the input by a few roundings
MAX_REASON = 160
MOST_FIXED = 1024  # images in a fixed batch
FEW_ROWS = 18  # of which every window of a batch is tried


class FreeBatch(Pass):
    """The first dimension of every input is the batch ``N``; a fixed batch is made free.

    Where the file fixes the batch at k, f must be a map of samples: f([a, b]) = [f(a), f(b)]. That
    is tried on random samples; where it does not hold the model is refused. Other dimensions must
    be numbers, from the file or from ``--input-shape``.
    """

    name = "free-batch"

    def run(self, model: ir.Model) -> ir.Model:
        """Set the shapes of the inputs and forget those computed for another batch."""
        unknown = set(self.session.input_shapes) - {label(v) for v in model.graph.inputs}
        if unknown:
            known = ", ".join(label(value) for value in model.graph.inputs)
            raise UsageError(
                f"--input-shape names {', '.join(sorted(unknown))}, which is no input",
                advice=f"the inputs are: {known}",
            )
        shapes = {value: self.shape(value) for value in model.graph.inputs}
        self.require_sizes(shapes)
        fixed = {shape[0] for shape in shapes.values() if isinstance(shape[0], int)}
        if fixed and {shape[0] for shape in shapes.values()} != fixed:
            raise UnsupportedError(
                "some inputs have a free batch and others a fixed one",
                [Finding(f"shape {shape}", tensor=label(v)) for v, shape in shapes.items()],
                advice="export all inputs with the same dynamic first dimension",
            )
        if len(fixed) > 1:
            raise UnsupportedError(f"the inputs have different batches: {sorted(map(str, fixed))}")
        if fixed:
            self.free(model, shapes, int(fixed.pop() or 1))
        else:
            self.declare(model, shapes)
            self.require_stacking(model, shapes)
        self.session.expected = self.outputs(model, PROBES[0])
        self.session.nearby = self.outputs(model, PROBES[0], factor=1 + ROUNDINGS)
        return model

    def require_stacking(
        self, model: ir.Model, shapes: dict[ir.Value, list[int | str | None]]
    ) -> None:
        """A file may call its batch free and yet run on one sample only."""
        if self.outputs(model, PROBES[0]) is not None or self.outputs(model, 1) is None:
            return
        for value, shape in shapes.items():
            value.shape = ir.Shape([1, *shape[1:]])
        self.free(model, shapes, 1)

    def outputs(self, model: ir.Model, batch: int, factor: float = 1.0) -> Mapping[str, Any] | None:
        """What the model computes on random samples, or None where it does not run."""
        samples = {
            name: (array * factor).astype(array.dtype) if array.dtype.kind == "f" else array
            for name, array in feeds(model, batch).items()
        }
        try:
            return self.session.run(to_proto(model))(samples)
        except Onnx2SnnError:
            return None

    def shape(self, value: ir.Value) -> list[int | str | None]:
        """Shape of an input with what the user adds.

        Raises:
            UnsupportedError: it has no axes.
        """
        found = dims(value)
        told = self.session.input_shapes.get(label(value))
        if found == [] or (told is not None and not told):
            raise UnsupportedError(f"input {label(value)} is a single number, not an image batch")
        if told is None:
            shape: list[int | str | None] = list(found) if found is not None else [None]
        else:
            shape = self.merge(value, found, told)
        if not isinstance(shape[0], int) or (told is not None and found is None):
            shape[0] = BATCH
        return shape

    def merge(
        self, value: ir.Value, found: list[int | str | None] | None, told: Sequence[int | str]
    ) -> list[int | str | None]:
        """The user's sizes where the file leaves them open; a contradiction is an error.

        Raises:
            UsageError: the shape that was given does not fit.
        """
        if found is None:
            return [*told]
        fits = len(found) == len(told) and all(
            not isinstance(a, int) or not isinstance(b, int) or a == b
            for a, b in zip(found[1:], told[1:], strict=True)
        )
        if not fits:
            raise UsageError(
                f"--input-shape {label(value)}:{','.join(map(str, told))} does not fit the "
                f"shape {shown(found)} in the file"
            )
        rest = [a if isinstance(a, int) else b for a, b in zip(found[1:], told[1:], strict=True)]
        return [found[0], *rest]

    def require_sizes(self, shapes: dict[ir.Value, list[int | str | None]]) -> None:
        """Every dimension but the batch must be a number.

        Raises:
            UsageError: a size is not known.
        """
        findings, flags = [], []
        for value, shape in shapes.items():
            if value.shape is None and len(shape) == 1:
                findings.append(Finding("its shape is unknown", tensor=label(value)))
                flags.append(f"--input-shape {label(value)}:1,3,{EXAMPLE_SIZE},{EXAMPLE_SIZE}")
            elif not all(isinstance(dim, int) and dim > 0 for dim in shape[1:]):
                sizes = [dim if isinstance(dim, int) else EXAMPLE_SIZE for dim in shape[1:]]
                text = ",".join(map(str, [1, *sizes]))
                findings.append(Finding(f"its shape is {shown(shape)}", tensor=label(value)))
                flags.append(f"--input-shape {label(value)}:{text}")
        if findings:
            raise UsageError(
                "the model leaves sizes open that must be known",
                findings,
                advice=f"give the sizes, for example {' '.join(flags)}",
            )

    def declare(self, model: ir.Model, shapes: dict[ir.Value, list[int | str | None]]) -> None:
        """Write the input shapes; computed shapes are inferred again later."""
        for value, shape in shapes.items():
            value.shape = ir.Shape([BATCH, *shape[1:]])
        refuse_impossible_sizes(to_proto(model))
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            for output in node.outputs:
                output.shape = None

    def free(
        self, model: ir.Model, shapes: dict[ir.Value, list[int | str | None]], batch: int
    ) -> None:
        """Make a fixed batch free and try whether samples stay apart.

        Raises:
            UnsupportedError: the answer to an image depends on the others in its batch.
        """
        if batch > MOST_FIXED:
            raise UnsupportedError(
                f"the file fixes the batch at {batch:,}: it would have to be run like that",
                advice="export the model with a dynamic batch dimension",
            )
        rows = batch + 2
        generator = np.random.default_rng(SEED)
        samples = {label(v): draw(v, rows, shape[1:], generator) for v, shape in shapes.items()}
        starts = range(rows) if rows <= FEW_ROWS else (0, 1, rows // 2)
        windows = [[(start + k) % rows for k in range(batch)] for start in starts]
        before = self.session.run(to_proto(model))
        expected = [
            before({name: array[window] for name, array in samples.items()}) for window in windows
        ]
        infer(model)
        sources = {node: dims(node.inputs[0]) for node in model.graph if node.inputs}
        self.declare(model, shapes)
        fold(model, shape_inference=False)
        self.loosen(model, batch, sources)
        try:
            found = self.session.run(to_proto(model))(samples)
            fits = all(
                agree(as_array(found[name])[window], as_array(result[name]))
                for window, result in zip(windows, expected, strict=True)
                for name in result
            )
            why = "the samples of a batch influence each other, or batches do not stack"
        except (Onnx2SnnError, IndexError) as error:
            fits, why = False, str(error).splitlines()[0][:MAX_REASON]
        if not fits:
            raise UnsupportedError(
                f"the file fixes the batch at {batch} and it cannot be made free: {why}",
                advice="export the model with a dynamic batch dimension",
            )
        self.note("", f"the file fixed the batch at {batch}; it is free now, tried with {rows}")

    def loosen(
        self, model: ir.Model, batch: int, sources: dict[ir.Node, list[int | str | None] | None]
    ) -> None:
        """Reshape and Resize to [k, …] of a [k, …] tensor keep the first size, whatever it is."""
        for node in model.graph:
            index = {"Reshape": 1, "Resize": 3}.get(node.op_type, 0)
            target = constant(input_at(node, index)) if index else None
            if target is None or target.size == 0 or target[0] != batch:
                continue
            first = (sources.get(node) or [None])[0]
            if node.op_type == "Resize":
                if "axes" not in node.attributes:
                    node.attributes["axes"] = ir.AttrInt64s("axes", list(range(1, target.size)))
                    rewritten_constant(node, index, target[1:], "free")
                continue
            keeps = first == batch and may_copy(node, target)
            if keeps or -1 not in target:
                target = target.copy()
                target[0] = 0 if keeps else -1
                rewritten_constant(node, index, target, "free")


def shown(shape: Sequence[int | str | None]) -> str:
    """A shape in words of the model, ? for what has no name."""
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"


def draw(value: ir.Value, rows: int, sizes: Sequence[Any], generator: np.random.Generator) -> Array:
    """Random samples of the input's type."""
    kind = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
    if np.issubdtype(kind, np.floating):
        return generator.standard_normal((rows, *sizes)).astype(kind)
    return generator.integers(0, 2, (rows, *sizes)).astype(kind)


def agree(found: Array, expected: Array) -> bool:
    """Whether two results are the same up to rounding."""
    if found.shape != expected.shape:
        return False
    scale = 1.0
    if expected.dtype != bool:
        scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
    close = np.allclose(
        found,
        expected,
        rtol=TOLERANCE,
        atol=TOLERANCE * scale,
        equal_nan=expected.dtype.kind == "f",
    )
    return bool(close)
