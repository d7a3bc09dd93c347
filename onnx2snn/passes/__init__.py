"""Normalisation: any ONNX file of a CNN becomes one plain graph on which the later stages work.

``PIPELINE`` lists the passes in their order; each states its law in its docstring. What they did,
and why a rewrite did not fire, is in the notes.
"""

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import onnx
import onnx_ir as ir

from onnx2snn.passes.base import Note, Pass, Run, Session
from onnx2snn.passes.batch import FreeBatch
from onnx2snn.passes.check_operators import CheckOperators, refuse_other_types
from onnx2snn.passes.check_result import CheckResult
from onnx2snn.passes.choices import Choices
from onnx2snn.passes.clamps import Clamps
from onnx2snn.passes.float32 import Float32
from onnx2snn.passes.fold_affine import FoldAffine
from onnx2snn.passes.fold_constants import FoldConstants
from onnx2snn.passes.fold_shapes import FoldBranches, FoldShapes
from onnx2snn.passes.framework_operators import FrameworkOperators
from onnx2snn.passes.gates import Gates
from onnx2snn.passes.infer_shapes import InferShapes
from onnx2snn.passes.merged_batch import MergedBatch
from onnx2snn.passes.opset import Opset
from onnx2snn.passes.padding import ExplicitPadding, FoldPad
from onnx2snn.passes.pool_before_maps import PoolBeforeMaps
from onnx2snn.passes.protos import from_proto, open_sizes, to_proto
from onnx2snn.passes.quantisation import StripQuantisation
from onnx2snn.passes.spellings import LinearSpellings
from onnx2snn.passes.structure import InitializersOutOfInputs, InlineFunctions, SortNodes
from onnx2snn.passes.tidy import DropDeadCode, Tidy
from onnx2snn.passes.transposes import SharedTransposes
from onnx2snn.passes.whole_windows import WholeWindows
from onnx2snn_runtime.errors import ModelError, Onnx2SnnError
from onnx2snn_runtime.files.disk import shown
from onnx2snn_runtime.files.inference import refuse_impossible_sizes

__all__ = ["PIPELINE", "Note", "Pass", "Session", "normalise", "to_proto"]

_LIBRARIES = ("onnx", "onnx_ir", "onnxscript")

PIPELINE: tuple[type[Pass], ...] = (
    InitializersOutOfInputs,
    InlineFunctions,
    SortNodes,
    FrameworkOperators,
    Opset,
    Tidy,
    CheckOperators,
    Float32,
    StripQuantisation,
    FreeBatch,
    FoldConstants,
    Tidy,
    FoldShapes,
    FoldBranches,
    DropDeadCode,
    WholeWindows,
    InferShapes,
    ExplicitPadding,
    FoldPad,
    LinearSpellings,
    SharedTransposes,
    Clamps,
    Choices,
    Gates,
    DropDeadCode,
    PoolBeforeMaps,
    FoldAffine,
    DropDeadCode,
    MergedBatch,
    InferShapes,
    CheckResult,
)


def normalise(
    model: onnx.ModelProto,
    *,
    input_shapes: Mapping[str, Sequence[int | str]] | None = None,
    run: Run,
) -> tuple[ir.Model, list[Note]]:
    """Bring a model to its normal form.

    Args:
        model: any valid ONNX model; it is not changed.
        input_shapes: sizes of dynamic inputs by name, batch first.
        run: prepares a model for execution; returns a function from feeds by input name to
            outputs by name.

    Returns:
        The normal form, with a type and a shape for every value and ``N`` for the batch, and
        the notes of all passes in order.

    Raises:
        ModelError: the graph is broken.
        UsageError: sizes are missing or ``input_shapes`` does not fit.
        UnsupportedError: something cannot be brought to the normal form.
    """
    refuse_other_types(model)
    session = Session(run, input_shapes or {})
    source = onnx.ModelProto()
    source.CopyFrom(model)  # the IR keeps and renames the tensors of its proto
    open_sizes(source)
    refuse_impossible_sizes(source)
    try:
        with _quiet_library():
            normal = from_proto(source)
            for item in PIPELINE:
                normal = item(session).run(normal)
    except Onnx2SnnError:
        raise
    except Exception as problem:
        if not _in_library(problem):
            raise
        reason: BaseException = problem
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise ModelError(
            f"the model holds something that cannot be read: {shown(reason, 300)}",
            advice="export it again, or check it with onnx.checker",
        ) from problem
    return normal, list(dict.fromkeys(session.notes))


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep what onnx-ir logs, with tracebacks, from the terminal: what matters it raises, too."""
    logger, nowhere = logging.getLogger("onnx_ir"), logging.NullHandler()
    before, logger.propagate = logger.propagate, False
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)
        logger.propagate = before


def _in_library(problem: BaseException) -> bool:
    """Whether a library that was given the model raised this, rather than code of ours."""
    modules = [
        frame.f_globals.get("__name__", "").partition(".")[0]
        for frame, _ in traceback.walk_tb(problem.__traceback__)
    ]
    ours = max(index for index, name in enumerate(modules) if name.startswith("onnx2snn"))
    return ours + 1 < len(modules) and modules[ours + 1] in _LIBRARIES
