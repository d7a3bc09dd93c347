"""What a network beyond the 2 GiB of a protobuf message takes: time and peak memory by command.

Writes a network in the manner of VGG, most of whose weights are two matrices in external data, then
converts, runs and evaluates it by the command line, each in its own process. Prints a Markdown
table.

    python benchmarks/large_model.py --folder FOLDER    # with room for three times the weights
"""

import argparse
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from conversion import MEBIBYTE, run
from onnx import TensorProto, helper, numpy_helper

CHANNELS = (3, 16, 32, 128)
SIZE = 56  # of an image; each of the three layers halves it
HIDDEN = (16384, 32768)
CLASSES = 10
IMAGES = 16
ROWS = 1024  # of a matrix that are drawn at once


def write_network(path: Path) -> None:
    """Write the network with its matrices in external data."""
    generator = np.random.default_rng(0)
    nodes, weights = [], []
    name = "input"
    for index, (before, after) in enumerate(pairwise(CHANNELS)):
        kernel = generator.normal(0, (2 / (9 * before)) ** 0.5, (after, before, 3, 3))
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"kernel_{index}"))
        nodes += [
            helper.make_node("Conv", [name, f"kernel_{index}"], [f"conv_{index}"], pads=[1] * 4),
            helper.make_node("Relu", [f"conv_{index}"], [f"relu_{index}"]),
            helper.make_node("MaxPool", [f"relu_{index}"], [f"pool_{index}"],
                             kernel_shape=[2, 2], strides=[2, 2]),
        ]  # fmt: skip
        name = f"pool_{index}"
    nodes.append(helper.make_node("Flatten", [name], ["flat"]))
    sizes = (CHANNELS[-1] * (SIZE // 8) ** 2, *HIDDEN, CLASSES)
    name, offset = "flat", 0
    data = path.with_suffix(".data")
    with data.open("wb") as stream:
        for index, (before, after) in enumerate(pairwise(sizes)):
            weights.append(_outside(f"matrix_{index}", (after, before), data.name, offset))
            offset += 4 * before * after
            for start in range(0, after, ROWS):
                rows = min(ROWS, after - start)
                part = generator.standard_normal((rows, before), np.float32)
                part *= np.float32((2 / before) ** 0.5)
                stream.write(part.data)
            last = index == len(sizes) - 2
            result = "logits" if last else f"gemm_{index}"
            nodes.append(helper.make_node("Gemm", [name, f"matrix_{index}"], [result], transB=1))
            if not last:
                nodes.append(helper.make_node("Relu", [result], [f"hidden_{index}"]))
                name = f"hidden_{index}"
    make = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "large", [make("input", TensorProto.FLOAT, ["N", CHANNELS[0], SIZE, SIZE])],
        [make("logits", TensorProto.FLOAT, ["N", CLASSES])], weights,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    )


def _outside(name: str, shape: tuple[int, int], location: str, offset: int) -> onnx.TensorProto:
    """A float32 tensor whose values lie in a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    length = 4 * shape[0] * shape[1]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def main() -> None:
    """Write, convert, run, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="what is written stays there; a network from before is taken",
    )
    folder = parser.parse_args().folder
    model, spiking, data = folder / "large.onnx", folder / "large.snn.onnx", folder / "data.npz"
    if not model.exists():
        write_network(model)
    size = model.stat().st_size + model.with_suffix(".data").stat().st_size
    generator = np.random.default_rng(1)
    images = generator.standard_normal((IMAGES, CHANNELS[0], SIZE, SIZE), np.float32)
    np.savez(data, images=images, labels=generator.integers(0, CLASSES, IMAGES))
    program = [sys.executable, "-m", "onnx2snn"]
    commands = {
        "convert": [str(model), "--calibration", str(data), "-q", "-o", str(spiking)],
        "run": [str(spiking), str(data), "-T", "4", "--json"],
        "eval": [str(spiking), str(data), "--timesteps", "1,4", "--json"],
        "eval --against": [str(spiking), str(data), "--timesteps", "4", "--against", str(model)],
    }
    print(f"model and external data: {size / MEBIBYTE:.0f} MiB, {os.cpu_count()} cores\n")
    print("| command | seconds | CPU seconds | peak MiB | × the files |")
    print("| --- | --- | --- | --- | --- |")
    for name, arguments in commands.items():
        seconds, processor, peak = run([*program, name.split()[0], *arguments])
        print(f"| `{name}` | {seconds:.1f} | {processor:.1f} | {peak:.0f} "
              f"| {peak * MEBIBYTE / size:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
