"""What is fuzzed: functions of bytes from which only our own errors may escape."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx

from onnx2snn.evaluation.journal import Journal
from onnx2snn.report.results import read_results
from onnx2snn_runtime.data.pictures import decode
from onnx2snn_runtime.data.preprocessing import Preprocessing
from onnx2snn_runtime.data.sources import open_data
from onnx2snn_runtime.errors import ModelError, Onnx2SnnError
from onnx2snn_runtime.files.inference import infer, sizes_of
from onnx2snn_runtime.files.limits import Limits, limited
from onnx2snn_runtime.files.model_checks import check_model
from onnx2snn_runtime.files.models import load_model, parse_model
from onnx2snn_runtime.network import Network

Target = Callable[[bytes], str]
TARGETS: dict[str, Target] = {}
_LIMITS = Limits(model_bytes=64 * 2**20, data_bytes=64 * 2**20)


def target(function: Callable[[bytes], object]) -> Target:
    """Register a target; it returns the class of our error, or an empty text."""

    def run(data: bytes) -> str:
        with limited(_LIMITS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                function(data)
            except Onnx2SnnError as error:
                str(error)  # the text must come out as well
                return type(error).__name__
        return ""

    TARGETS[function.__name__] = run
    return run


@contextmanager
def _file(data: bytes, suffix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input{suffix}"
        path.write_bytes(data)
        yield path


@target
def model(data: bytes) -> None:
    """An ONNX file, parsed and checked."""
    check_model(parse_model(data))


@target
def model_file(data: bytes) -> None:
    """The same through the disk, external data included."""
    with _file(data, ".onnx") as path:
        load_model(path)


@target
def spiking(data: bytes) -> None:
    """A spiking network, checked, planned, compiled and run for two steps."""
    parsed = parse_model(data)
    check_model(parsed)
    network = Network(parsed, backend="numpy")
    feeds = {
        name: np.ones([2 if isinstance(size, str) else size for size in shape], np.float32)
        for name, shape in network.input_shapes.items()
        if np.prod([size for size in shape if isinstance(size, int)], dtype=float) < 10**5
    }
    widest = network.plan.footprint.row_bytes
    if widest < 10**6:  # large networks take their time, which is no fault
        network.run(feeds, timesteps=2)


@target
def convert(data: bytes) -> None:
    """A model, all the way to a spiking network."""
    from onnx2snn import convert as convert_model

    parsed = parse_model(data)
    check_model(parsed)
    if _elements(parsed) < 10**5:  # large networks take their time, which is no fault
        convert_model(parsed, backend="numpy")


def _elements(parsed: onnx.ModelProto) -> float:
    """Elements of all tensors of one image, as far as they can be inferred."""
    try:
        graph = infer(parsed).graph
    except ModelError:
        return 0
    values = (*graph.value_info, *graph.input, *graph.output)
    return sum(
        float(np.prod([max(1, size or 1) for size in sizes_of(value)], dtype=float))
        for value in values
    )


@target
def arrays(data: bytes) -> None:
    """An .npz or .npy with images and labels."""
    with _file(data, ".npz") as path:
        for _ in open_data(path).batches(4, (1, 8, 8)):
            pass


@target
def picture(data: bytes) -> None:
    """A picture."""
    decode(data, "picture", 3, (8, 8))


@target
def journal(data: bytes) -> None:
    """The journal of an evaluation."""
    with _file(data, ".journal") as path, Journal(path, "key"):
        pass


@target
def results(data: bytes) -> None:
    """Stored results of an evaluation, as ``report`` reads them."""
    with _file(data, ".json") as path:
        read_results(path)


@target
def preprocess(data: bytes) -> None:
    """The option --preprocess."""
    Preprocessing.parse(data.decode("utf-8", "replace"))
