"""Fill ``built/``: the embedded network as an SNN, what the page must know of it, onnxruntime-web.

npm install && python build.py && python -m http.server
"""

import argparse
import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import onnx2snn
from onnx2snn.embedded import EMBEDDED_CALIBRATION, EMBEDDED_MODEL, EMBEDDED_TEST, embedded_file
from onnx2snn_runtime.planning.planner import make_plan

HERE = Path(__file__).resolve().parent
CLASSES = [
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
]  # fmt: skip
LIBRARY = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def describe(model: Any) -> dict[str, Any]:
    """Names and shapes of inputs and states, and which states count the spikes of which layer."""
    plan = make_plan(model)
    inputs = [*plan.inputs]
    kinds = {1: "float32", 6: "int32", 7: "int64"}
    states = [
        {
            "name": value.name,
            "type": kinds[value.type.tensor_type.elem_type],
            "shape": [size.dim_value or 1 for size in value.type.tensor_type.shape.dim],
        }
        for value in model.graph.input
        if value.name not in inputs
    ]
    layers = [
        {
            "name": unit.name,
            "counts": unit.states[unit.operator.state_names.index("spikes")],
            "shape": [size for size in unit.state_shapes[0] if isinstance(size, int)],
            "burst": unit.operator.attributes["burst_limit"],
        }
        for unit in plan.stateful
        if unit.operator.family == "BurstIF"
    ]
    return {"input": inputs[0], "output": plan.outputs[0], "states": states, "layers": layers}


def samples() -> list[dict[str, Any]]:
    """The first test image of each class."""
    data = np.load(embedded_file(EMBEDDED_TEST))
    first = [int(np.flatnonzero(data["labels"] == label)[0]) for label in range(len(CLASSES))]
    return [
        {"label": label, "pixels": base64.b64encode(data["images"][index].tobytes()).decode()}
        for label, index in enumerate(first)
    ]


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path, default=HERE / "node_modules/onnxruntime-web/dist")
    parser.add_argument("--output", type=Path, default=HERE / "built")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in LIBRARY:
        if not (options.library / name).exists():
            parser.error(f"no {name} in {options.library}: run npm install in docs/demo")
        shutil.copyfile(options.library / name, options.output / name)
    snn = onnx2snn.convert(
        embedded_file(EMBEDDED_MODEL),
        calibration=embedded_file(EMBEDDED_CALIBRATION),
        preprocess="unit",
    )
    snn.save(options.output / "network.snn.onnx")
    document = {**describe(snn.proto), "classes": CLASSES, "samples": samples()}
    (options.output / "network.json").write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
