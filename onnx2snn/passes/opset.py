"""One operator set: the newest of 18 and what the file says."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from onnx2snn.passes.base import Array, Pass, as_array
from onnx2snn.passes.batch import agree, draw
from onnx2snn.passes.check_operators import TRAINED
from onnx2snn.passes.graph import constant, dims, input_at, is_op, label
from onnx2snn.passes.probe import PROBES, RANDOM, SEED
from onnx2snn.passes.protos import from_proto, to_proto
from onnx2snn_runtime.errors import Finding, Onnx2SnnError, UnsupportedError

OPSET = 18


class Opset(Pass):
    """Operator set k < 18 of the default domain becomes 18; newer ones stay.

    Domains that no node uses are dropped, and the IR version is what the operator set asks for.
    """

    name = "opset"

    def run(self, model: ir.Model) -> ir.Model:
        """Convert; returns a new model where the operator set changed."""
        graph = model.graph
        if "ai.onnx" in graph.opset_imports:
            graph.opset_imports[""] = graph.opset_imports.pop("ai.onnx")
        common.RemoveUnusedOpsetsPass()(model)
        version = graph.opset_imports.setdefault("", OPSET)
        if version < OPSET:
            model = self.convert(model, version)
        wanted = onnx.helper.find_min_ir_version_for(
            [onnx.helper.make_opsetid("", model.graph.opset_imports[""])], ignore_unknown=True
        )
        model.ir_version = max(model.ir_version or 0, wanted)
        return model

    def convert(self, model: ir.Model, version: int) -> ir.Model:
        """Let onnx convert every node, mend what it leaves out, and compare the results.

        Raises:
            UnsupportedError: the library cannot; with what it says.
        """
        refuse_unknown(model, version)
        refuse_old_semantics(model, version)
        fed = self.feeds(model)
        before = self.outputs(model, fed)
        model.ir_version = max(model.ir_version or 0, 4)
        for value in model.graph.outputs:
            value.shape = None
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            if is_op(node, "Pad") and node.attributes.get_string("mode", "constant") != "constant":
                node.attributes.pop("value", None)  # onnx would keep it, and nobody reads it
            for output in node.outputs:
                output.shape = None
        try:
            converted = version_converter.convert_version(to_proto(model), OPSET)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnsupportedError(
                f"operator set {version} cannot be brought to {OPSET}: {reason}",
                advice=f"export the model with opset {OPSET} or newer",
            ) from error
        result = from_proto(converted)
        if version < RESIZE_MODES:
            for node in result.graph:
                if is_op(node, "Resize"):
                    old_coordinates(node)
        after = self.outputs(result, fed)
        changed = [
            Finding(f"it changed when operator set {version} became {OPSET}", tensor=name)
            for name, array in before.items()
            if name in after and not agree(as_array(after[name]), as_array(array))
        ]
        if changed:
            raise UnsupportedError(
                f"operator set {version} cannot be brought to {OPSET}: the results differ",
                changed,
                advice=f"export the model with opset {OPSET} or newer",
            )
        self.note("", f"operator set {version} converted to {OPSET}")
        return result

    def feeds(self, model: ir.Model) -> dict[str, Array]:
        """Random samples for every input whose sizes are known, else nothing."""
        generator = np.random.default_rng(SEED)
        found = {}
        for value in model.graph.inputs:
            told = list(self.session.input_shapes.get(label(value), ()))
            shape = told or dims(value) or [None]
            if value.dtype is None or not all(isinstance(size, int) for size in shape[1:]):
                return {}
            rows = shape[0] if isinstance(shape[0], int) else PROBES[0]
            found[label(value)] = draw(value, rows, shape[1:], generator)
        return found

    def outputs(self, model: ir.Model, fed: Mapping[str, Array]) -> Mapping[str, Any]:
        """What a model computes; nothing where it cannot be run or draws random numbers."""
        if not fed or any(is_op(node, *RANDOM) for node in model.graph):
            return {}
        try:
            return self.session.run(to_proto(model))(dict(fed))
        except Onnx2SnnError:
            return {}


RESIZE_MODES = 11
AXIS_OF_ONE = 13
TRAINING_MODE = 14  # an attribute since then


def old_coordinates(node: ir.Node) -> None:
    """What Resize meant before operator set 11 had names for it, as onnxruntime reads it."""
    scales = constant(input_at(node, 2))
    shrinks = scales is not None and bool((scales <= 1).all())
    modes = {"coordinate_transformation_mode": "asymmetric",
             "nearest_mode": "ceil" if shrinks else "floor"}  # fmt: skip
    node.attributes.update({key: ir.AttrString(key, mode) for key, mode in modes.items()})


def refuse_unknown(model: ir.Model, version: int) -> None:
    """Operators that the operator set does not have stop onnx with words that help nobody.

    Raises:
        UnsupportedError: with all of them.
    """
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    findings = [
        Finding(f"no operator of operator set {version}",
                "an exporter left an operator of its framework: hand over the model itself "
                "(.keras, .pt2, from_keras, from_torch), or export with another version",
                node=label(node), op=node.op_type)
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if not node.domain and node.op_type not in known
    ]  # fmt: skip
    if findings:
        raise UnsupportedError(f"{len(findings)} operators cannot be converted", findings)


def refuse_old_semantics(model: ir.Model, version: int) -> None:
    """Hardmax reduced over all axes from ``axis`` on before operator set 13.

    BatchNormalization trained before operator set 14 where it had more than one output.

    Raises:
        UnsupportedError: onnx would keep the node, which then means something else.
    """
    findings = [
        Finding("it reduces over several axes", f"export with opset {AXIS_OF_ONE} or newer",
                node=label(node), op=node.op_type)
        for node in model.graph
        if version < AXIS_OF_ONE
        and is_op(node, "Hardmax")
        and node.attributes.get_int("axis", 1) not in (-1, len(dims(node.inputs[0]) or []) - 1)
    ]  # fmt: skip
    findings += [
        Finding(*TRAINED, node=label(node), op=node.op_type)
        for node in model.graph
        if version < TRAINING_MODE
        and is_op(node, "BatchNormalization")
        and any(output.name for output in node.outputs[1:])  # statistics, kept or not
    ]
    if findings:
        raise UnsupportedError(f"operator set {version} cannot be brought to {OPSET}", findings)
