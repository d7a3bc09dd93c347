"""The network that is converted, as it was given."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from onnx2snn_runtime.data.input_preprocessing import Preprocessings, by_input, told
from onnx2snn_runtime.data.preprocessing import PRESETS
from onnx2snn_runtime.errors import Finding, ModelError
from onnx2snn_runtime.files.beside import LARGE_MODEL, is_beside
from onnx2snn_runtime.files.inference import refuse_impossible_sizes
from onnx2snn_runtime.files.model_checks import check_model
from onnx2snn_runtime.files.models import load_model
from onnx2snn_runtime.format import NEXT, is_spiking
from onnx2snn_runtime.planning.whole_inputs import WHOLE


@dataclass(frozen=True)
class SourceModel:
    """A trained network in ONNX.

    Attributes:
        ann: the model, as its exporter wrote it.
        sha256: of the file, or of the model.
    """

    ann: onnx.ModelProto
    sha256: str

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs that take data: older files list their weights as well."""
        weights = {item.name for item in self.ann.graph.initializer}
        return [value.name for value in self.ann.graph.input if value.name not in weights]

    @property
    def whole_inputs(self) -> dict[str, int]:
        """Inputs of whole numbers, with their types."""
        kinds = {value.name: value.type.tensor_type.elem_type for value in self.ann.graph.input}
        return {name: kinds[name] for name in self.inputs if kinds[name] in WHOLE}

    def preprocessing(self, given: Any) -> Preprocessings | None:
        """What is asked for; inputs of whole numbers take those of pictures as they are.

        Raises:
            UsageError: it cannot be read, or names an input that is not there.
        """
        asked = told(given)
        known = by_input(asked, self.inputs)
        whole = self.whole_inputs.keys() - known.keys()
        return {**known, **dict.fromkeys(whole, PRESETS["none"])} if whole else asked


def strange_source(given: SourceModel, model: Any, metadata: Mapping[str, Any]) -> list[str]:
    """A remark if the file of an ANN is not the one that a spiking network was converted from."""
    stored = metadata.get("source_sha256")
    if not isinstance(model, str | Path) or not stored or stored == given.sha256:
        return []
    return ["the SNN was converted from another file than this one (sha256 differs)"]


def read(model: str | Path | onnx.ModelProto) -> SourceModel:
    """Read and check a model; one that is given as such is copied.

    Raises:
        ModelError: it cannot be read, or is a spiking network already.
    """
    if isinstance(model, onnx.ModelProto):
        loaded = onnx.ModelProto()
        loaded.CopyFrom(model)
        check_model(loaded)
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    else:
        loaded = load_model(model)
        with Path(model).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    if is_spiking(loaded):
        raise ModelError(
            "the model is a spiking network already", advice="run it: onnx2snn run MODEL INPUT"
        )
    _refuse_names(loaded)
    return SourceModel(loaded, digest)


def _refuse_names(model: onnx.ModelProto) -> None:
    """Without outputs there is no answer, and ``….next`` is how the output of a state is called.

    Raises:
        ModelError: there are none, or one has the name of a state.
    """
    if not model.graph.output:
        raise ModelError("the model has no outputs", advice="export it again")
    inputs = {value.name for value in model.graph.input}
    findings = [
        Finding(f"the input {value.name.removesuffix(NEXT)!a} would be taken for a state",
                "give the output another name", tensor=value.name)
        for value in model.graph.output
        if value.name.endswith(NEXT) and value.name.removesuffix(NEXT) in inputs
    ]  # fmt: skip
    if findings:
        raise ModelError("outputs have names that states have in spiking networks", findings)


def refuse_invalid(model: onnx.ModelProto) -> None:
    """Say what onnx's own checker finds, where something else has failed already.

    Models that it refuses may convert: exporters write sizes, types and orders that it dislikes.

    Raises:
        ModelError: it finds something.
    """
    if model.ByteSize() > LARGE_MODEL or any(map(is_beside, model.graph.initializer)):
        return
    refuse_impossible_sizes(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        lines = [line for line in str(problem).splitlines() if line.strip()]
        raise ModelError(
            f"the model is not valid ONNX: {lines[0] if lines else type(problem).__name__}",
            advice="export it again; onnx.checker.check_model(model, full_check=True) finds this",
        ) from problem
