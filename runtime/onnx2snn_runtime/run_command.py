"""The command ``run``, shared by ``onnx2snn run`` and ``onnx2snn-run``."""

import argparse
import io
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx2snn_runtime.files.limits import add_limit_arguments
from onnx2snn_runtime.json_form import to_json
from onnx2snn_runtime.naming import free_name

if TYPE_CHECKING:
    from onnx2snn_runtime.data.input_preprocessing import Preprocessings
    from onnx2snn_runtime.data.inputs import InputData
    from onnx2snn_runtime.network import Network

MANY_TIMESTEPS = 4096
MEBIBYTE = 2**20


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``run``."""
    parser.add_argument("model", metavar="MODEL.snn.onnx", help="spiking network")
    parser.add_argument(
        "input",
        metavar="INPUT",
        help=".npz, .npy, picture or folder of pictures; "
        "several inputs: .npz or folder with the data of each under its name",
    )
    parser.add_argument("-T", "--timesteps", type=int, help="timesteps (default: as recommended)")
    add_backend_arguments(parser)
    add_limit_arguments(parser)
    add_exit_argument(parser)
    add_preprocess_argument(parser, "override the stored preprocessing")
    parser.add_argument("-o", "--output", metavar="OUT.npz", help="write the answers here")
    add_clobber_argument(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say where and how a network runs."""
    parser.add_argument("--backend", default="auto", help="auto, numpy, onnxruntime or cupy")
    parser.add_argument("--batch-size", type=int, help="images at once (default: the fastest)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument(
        "--memory",
        type=int,
        metavar="MIB",
        help="for states and activations (default: a share of what is free)",
    )
    parser.add_argument(
        "--compute",
        default="fp32",
        metavar="fp32|tf32|fp16",
        help="arithmetic of convolutions; tf32 and fp16 on the backend cupy only (fp32)",
    )


def add_exit_argument(parser: argparse.ArgumentParser) -> None:
    """The switch for early exit."""
    parser.add_argument(
        "--early-exit", action="store_true", help="an image leaves once its decision is stable"
    )


def add_preprocess_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """What turns the bytes of pictures into numbers, for all inputs or for each."""
    parser.add_argument(
        "--preprocess",
        metavar="[NAME:]SPEC",
        action="append",
        default=[],
        help=f"{text}; NAME: only of this input",
    )


def add_clobber_argument(parser: argparse.ArgumentParser) -> None:
    """The switch of commands that write a file."""
    parser.add_argument("--no-clobber", action="store_true", help="never replace a file")


def check_backend_arguments(options: argparse.Namespace) -> None:
    """Check the numbers among them, before any work.

    Raises:
        UsageError: one of them is below 1.
    """
    from onnx2snn_runtime.errors import UsageError

    if any(value is not None and value < 1 for value in (options.memory, options.batch_size)):
        raise UsageError("--memory and --batch-size must be at least 1")


def open_network(options: argparse.Namespace) -> "Network":
    """The network of a command line, on the backend that it asks for.

    Raises:
        ModelError: the file cannot be read or is not a spiking network.
        UsageError: an option is out of range, or the backend does not offer it.
        BackendError: the backend cannot run here.
    """
    from onnx2snn_runtime.network import load

    memory = None if options.memory is None else options.memory * MEBIBYTE
    return load(
        options.model, options.backend, options.threads, memory=memory, compute=options.compute
    )


def remarks(
    network: "Network", data: "InputData", options: argparse.Namespace, *more: str
) -> Iterator[str]:
    """Lines about the backend, about the data and about how the network has run."""
    if options.verbose:
        yield f"backend {network.backend.name}: {network.backend_reason}"
    if not options.quiet:
        yield from (f"note: {n}" for n in dict.fromkeys([*more, *data.notes, *network.notes]))


def run_command(options: argparse.Namespace) -> int:
    """Run a network on data and print or write the answers.

    Raises:
        UsageError: a number is out of range.
        DataError: the data does not fit the network.
    """
    from onnx2snn_runtime.data.input_preprocessing import parse_all
    from onnx2snn_runtime.data.inputs import open_inputs
    from onnx2snn_runtime.errors import UsageError  # here, so that --help stays fast
    from onnx2snn_runtime.files.models import check_writable, write_bytes_atomic

    check_backend_arguments(options)
    if options.timesteps is not None and options.timesteps < 1:
        raise UsageError(f"--timesteps must be at least 1, got {options.timesteps}")
    if options.timesteps is not None and options.timesteps > MANY_TIMESTEPS:
        print(f"warning: {options.timesteps} timesteps take long", file=sys.stderr)  # noqa: T201
    if options.output:
        check_writable(options.output, inputs=[options.model, options.input])
    network = open_network(options)
    preprocessing = parse_all(options.preprocess) or network.preprocessing
    data = open_inputs(options.input, list(network.input_shapes))
    outputs, timesteps, exit_steps = answers(
        network, data, preprocessing, options.timesteps, options.batch_size, options.early_exit
    )
    if options.output:
        write_bytes_atomic(options.output, archive(outputs))
    show(options, outputs, network, timesteps, exit_steps, data.image_names)
    for line in remarks(network, data, options):
        print(line, file=sys.stderr)  # noqa: T201
    return 0


def answers(
    network: "Network",
    data: "InputData",
    preprocessing: "Preprocessings | None",
    timesteps: int | None,
    batch_size: int | None = None,
    early_exit: bool = False,
    limit: int | None = None,
) -> tuple[dict[str, Any], int, list[int] | None]:
    """Outputs of the images by name [N,*], the steps run, and with early exit those of each image.

    Raises:
        DataError: the images do not fit the network.
        UsageError: a number is out of range, or early exit is impossible here.
    """
    import numpy as np

    parts = [
        network.run(piece.feeds(), timesteps, batch_size=batch_size, early_exit=early_exit)
        for piece in data.pieces(
            batch_size or network.images_to_read, network.input_shapes, preprocessing, limit
        )
    ]
    outputs = {
        name: np.concatenate([part.outputs[name] for part in parts]) for name in parts[0].outputs
    }
    taken = [part.exit_steps for part in parts if part.exit_steps is not None]
    return outputs, parts[0].timesteps, np.concatenate(taken).tolist() if taken else None


def archive(outputs: Mapping[str, Any]) -> bytes:
    """The bytes of an .npz; names that no file could have get other letters, and stay unique."""
    import numpy as np

    buffer = io.BytesIO()
    taken: set[str] = set()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, array in outputs.items():
            plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:200]
            unique = free_name(plain, taken.__contains__)
            taken.add(unique)
            with target.open(zipfile.ZipInfo(f"{unique}.npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def show(
    options: argparse.Namespace,
    outputs: dict[str, Any],
    network: "Network",
    timesteps: int,
    exit_steps: list[int] | None,
    names: Sequence[str] | None,
) -> None:
    """Print the answers: classes where the deciding output tells them, else shapes."""
    first = network.decided(outputs)
    classes = first.argmax(axis=1).tolist() if first.ndim == 2 and first.shape[1] > 1 else None
    document: dict[str, Any] = {
        "samples": len(first),
        "timesteps": timesteps,
        "backend": network.backend.name,
        "exit_steps": exit_steps,
        "outputs": {name: list(array.shape) for name, array in outputs.items()},
        "classes": classes,
        "images": None if names is None else list(names),
        "written": str(Path(options.output)) if options.output else None,
    }
    if options.json:
        text = to_json(document)
    elif classes is not None:
        left = [f"\tT = {steps}" for steps in exit_steps or []] or [""] * len(classes)
        text = "\n".join(
            f"{name}\tclass {label}{after}"
            for name, label, after in zip(names or range(len(classes)), classes, left, strict=True)
        )
    else:
        text = "\n".join(f"{name}\t{list(array.shape)}" for name, array in outputs.items())
    print(text)  # noqa: T201  (the answer of the command)
