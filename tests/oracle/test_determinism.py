"""Same inputs, options and seed: the same bytes, however the work is split."""

import json
import os
import subprocess
import sys

import networks
import numpy as np
import onnx
import pytest

import onnx2snn
from onnx2snn.recipes import RECIPES
from onnx2snn_runtime.backends import backend_classes
from onnx2snn_runtime.network import Network

CHUNK_OF_ONE = 1  # bytes: less than a step, so that every chunk is one step
SPLITS = [
    {"memory": CHUNK_OF_ONE},
    {"memory": 60_000, "batch_size": 2},
    {"batch_size": 1, "memory": CHUNK_OF_ONE, "threads": 1},
    {"threads": 2},
]


@pytest.fixture(params=sorted(backend_classes()))
def backend(request):
    """Name of a backend that can run here."""
    reason = backend_classes()[request.param].unavailable()
    if reason:
        pytest.skip(f"backend {request.param}: {reason}")
    return request.param


def dense_network():
    """Spiking layers that are fully connected, which libraries multiply by the shape of a batch."""
    b = networks.Builder(5)
    x = b.add("Relu", [b.conv("input", 3, 6)])
    x = b.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.add("Flatten", [x])
    for before, after in ((96, 50), (50, 33)):
        x = b.add("Relu", [b.add("Gemm", [x, b.weight(after, before), b.weight(after)], transB=1)])
    return b.model(b.add("Gemm", [x, b.weight(4, 33), b.weight(4)], transB=1), [4])


def wide_network():
    """Layers so large that BLAS shares a dot product between threads."""
    b = networks.Builder(6, size=24)
    x = b.add("Relu", [b.conv("input", 3, 8)])
    x = b.add("Relu", [b.conv(x, 8, 8)])
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x])])
    return b.model(b.add("Gemm", [flat, b.weight(4, 8), b.weight(4)], transB=1), [4])


@pytest.fixture(scope="module", params=sorted(RECIPES))
def files(request):
    """Two networks converted with one recipe."""
    calibration = networks.images(32, seed=2)
    return [
        onnx2snn.convert(source, calibration=calibration, recipe=request.param).proto
        for source in (networks.small_cnn(), dense_network())
    ]


def test_results_do_not_depend_on_the_split(backend, files):
    images = networks.images(5)
    for model in files:
        whole = Network(model, backend=backend).run(images, timesteps=[1, 5], record=True)
        for split in SPLITS:
            options = {"backend": backend, **split}
            size = options.pop("batch_size", 5)
            found = Network(model, **options).run(
                images, timesteps=[1, 5], record=True, batch_size=size
            )
            for t, outputs in whole.by_step.items():
                for name, expected in outputs.items():
                    assert np.array_equal(found.by_step[t][name], expected), (split, t)
            for layer, spikes in whole.spikes.items():
                assert np.array_equal(found.spikes[layer], spikes), (split, layer)


def test_measurements_do_not_depend_on_the_split(backend):
    data = networks.images(11), np.arange(11) % 4
    model = onnx2snn.convert(networks.small_cnn(), calibration=networks.images(32, seed=2)).proto
    documents = [
        onnx2snn.evaluate(
            Network(model, backend=backend, threads=threads), data,
            timesteps=[1, 3], batch_size=size,
        )
        for size, threads in ((11, None), (4, 1), (1, 2))
    ]  # fmt: skip
    assert documents[1] == documents[0]
    assert documents[2] == documents[0]


@pytest.mark.parametrize("calibrated", [True, False], ids=["images", "noise"])
def test_files_are_byte_identical_across_processes(tmp_path, calibrated):
    """Whatever the order of sets and however many processors there are."""
    onnx.save(wide_network(), tmp_path / "net.onnx")
    np.savez(tmp_path / "images.npz", images=networks.images(16, seed=2, shape=(3, 24, 24)))
    data = ["--calibration", tmp_path / "images.npz"] if calibrated else []
    code = (
        "import os, sys\n"
        "processors = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []\n"
        "if sys.argv.pop(1) == 'one' and processors:\n"
        "    os.sched_setaffinity(0, processors[:1])\n"
        "from onnx2snn.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    contents = []
    for number, processors in enumerate(["all", "one", "all"]):
        output = tmp_path / f"{number}.snn.onnx"
        done = subprocess.run(
            [sys.executable, "-c", code, processors, "convert", tmp_path / "net.onnx",
             "-o", output, *data],
            env={**os.environ, "PYTHONHASHSEED": str(number)}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        contents.append(output.read_bytes())
    first, *others = map(readable, contents)
    assert others == [first, first]
    assert len(set(contents)) == 1


def readable(content):
    """The metadata, so that a difference is named."""
    (entry,) = onnx.load_model_from_string(content).metadata_props
    return json.loads(entry.value)


def test_a_seed_changes_the_noise():
    with pytest.warns(UserWarning, match="no calibration images"):
        files = [
            onnx2snn.convert(networks.small_cnn(), seed=seed).proto.SerializeToString(
                deterministic=True
            )
            for seed in (0, 0, 1)
        ]
    assert files[0] == files[1]
    assert files[0] != files[2]
