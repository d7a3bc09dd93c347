"""Writes a file of each kind with its answers; run it when the format version is raised.

    python tests/golden/write.py            all kinds
    python tests/golden/write.py shortcut   a new one

Files of older versions stay: `test_golden_files.py` reads them all.
"""

import sys
from pathlib import Path

import numpy as np
import onnx

import onnx2snn
from onnx2snn_runtime.format import FORMAT_VERSION

STEPS = 6
HERE = Path(__file__).parent
GRAPH = """
    <ir_version: 8, opset_import: ["" : 17]>
    network (float[N,2,6,6] image) => (float[N,3] scores)
    {
        first = Conv<pads=[1,1,1,1]>(image, w1)
        bounded = Clip(first, zero, six)
        second = Conv<pads=[1,1,1,1]>(bounded, w2, b2)
        gate = Sigmoid(second)
        smooth = Mul(second, gate)
        pooled = MaxPool<kernel_shape=[2,2], strides=[2,2]>(smooth)
        weights = Softmax<axis=1>(pooled)
        mixed = Mul(pooled, weights)
        third = Conv(mixed, w3)
        last = Relu(third)
        mean = GlobalAveragePool(last)
        flat = Flatten(mean)
        scores = Gemm<transB=1>(flat, w4)
    }"""
KINDS = {
    "fast": {"recipe": "fast"},
    "refine": {"recipe": "refine"},
    "paper": {"recipe": "paper"},
    "tuned": {"recipe": "refine", "target_drop": 0.2},
    "int8": {"recipe": "fast", "precision": "int8"},
    "shortcut": {"recipe": "refine", "target_drop": 1.0},
}
PLAIN = {
    "gate = Sigmoid(second)": "", "Mul(second, gate)": "Relu(second)",
    "weights = Softmax<axis=1>(pooled)": "", "Mul(pooled, weights)": "Identity(pooled)",
}  # fmt: skip
CHANGES = {
    "int8": PLAIN,  # SiLU and Softmax have no form in whole numbers
    "shortcut": {
        **PLAIN,
        "mixed = Identity(pooled)": """inner = Conv<pads=[1,1,1,1]>(pooled, w2)
        sum = Add(inner, pooled)
        mixed = Relu(sum)""",
    },
}  # fmt: skip


def network(kind: str) -> onnx.ModelProto:
    """A small CNN with what this kind is about."""
    text = GRAPH
    for old, new in CHANGES.get(kind, {}).items():
        text = text.replace(old, new)
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(7)
    shapes = {"w1": (4, 2, 3, 3), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (4, 4, 1, 1), "w4": (3, 4)}
    arrays = {name: random.standard_normal(shape) / 3 for name, shape in shapes.items()}
    arrays["b2"] = arrays["b2"] + 2.0  # most activations are above zero, so estimates begin there
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array, np.float32), name)
        for name, array in {**arrays, "zero": 0.0, "six": 6.0}.items()
    )
    return model


def images(count: int) -> np.ndarray:
    """Inputs [N,2,6,6]."""
    return np.random.default_rng(8).standard_normal((count, 2, 6, 6)).astype(np.float32)


def main() -> None:
    """Write kinds under the present version."""
    for kind in sys.argv[1:] or KINDS:
        model = onnx2snn.convert(
            network(kind), calibration=images(64), backend="numpy", **KINDS[kind]
        )
        stem = HERE / f"v{FORMAT_VERSION}_{kind}"
        model.save(stem.with_suffix(".snn.onnx"))
        result = model.network(backend="numpy").run(images(4), list(range(1, STEPS + 1)))
        answers = np.stack([result.by_step[t]["scores"] for t in range(1, STEPS + 1)])
        np.save(stem.with_suffix(".npy"), answers)


if __name__ == "__main__":
    main()
