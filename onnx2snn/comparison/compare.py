"""Layer by layer: the ANN against the spiking network made of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibration.calibrate import with_outputs
from onnx2snn.comparison.departure import first_departure
from onnx2snn.comparison.layer_statistics import LayerStatistics, refines
from onnx2snn.evaluation.stand_in import normal_form
from onnx2snn.integer.between import with_neurons_between
from onnx2snn.preparation import arranged
from onnx2snn.source_model import read, strange_source
from onnx2snn.spiking_model import SpikingModel
from onnx2snn.verification.verify import class_agreement, relative_error
from onnx2snn_runtime.backends import Runner
from onnx2snn_runtime.data.input_preprocessing import Preprocessings, told
from onnx2snn_runtime.data.inputs import open_inputs
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.feeds import check_batch_size, check_timesteps
from onnx2snn_runtime.network import Network, load

IMAGES = 64
Progress = Callable[[int, int], None]


def compare(
    model: str | Path | onnx.ModelProto,
    network: Network | SpikingModel | str | Path,
    data: Any,
    *,
    timesteps: int | None = None,
    limit: int = IMAGES,
    batch_size: int | None = None,
    preprocessing: str | Preprocessings | Mapping[str, str] | None = None,
    backend: str = "auto",
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Run an ANN and its spiking network on the same images and compare every layer.

    A layer's mean over the timesteps stands against the ANN's activation. Its error is the L2
    distance relative to the deviation of the activation from its mean.

    Args:
        model: the ANN that was converted, a path or the model itself.
        network: what ``convert`` returned, a loaded network, or a path.
        data: images (see ``open_inputs``).
        timesteps: steps to run; default: what the converter recommends.
        limit: use only the first images.
        batch_size: images at once at most; default: what fits the memory.
        preprocessing: overrides what is stored in the file.
        backend: where to run a network that is given as a path.
        progress: is told how many images of how many are done.

    Returns:
        The document that ``onnx2snn compare --json`` prints: ``samples``, ``timesteps``,
        ``agreement`` in %, ``output_error`` (each output in ``output_errors``),
        ``first_departing``, ``cause``, ``notes`` and ``layers`` in the order of the network (see
        ``LayerReport``).

    Raises:
        DataError: the images do not fit the network.
        UsageError: the two are not the same network, or a number is out of range.
    """
    if limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}")
    if isinstance(network, SpikingModel):
        network = network.network(backend)
    elif not isinstance(network, Network):
        network = load(network, backend=backend)
    wanted = network.recommended_timesteps if timesteps is None else timesteps
    (steps,) = check_timesteps(wanted, {}, sequence=False)
    statistics = LayerStatistics(network, steps)
    run, notes = reference(model, network, statistics.tensors)
    inputs = open_inputs(data, list(network.input_shapes))
    count = min(limit, inputs.count)
    outputs = _Outputs(network)
    applied = told(preprocessing) or network.preprocessing
    size = statistics.batch_size if batch_size is None else check_batch_size(batch_size)
    for piece in inputs.pieces(size, network.input_shapes, applied, count):
        feeds, _ = network.check_feeds(piece.feeds())
        expected = run(feeds)
        answers = statistics.run(feeds, expected)
        outputs.add(answers[steps], expected)
        progress(statistics.images, count)
    layers = statistics.reports()
    name, cause = first_departure(layers, network.metadata, finite=outputs.finite)
    return {
        "samples": statistics.images,
        "timesteps": steps,
        **outputs.summary(),
        "first_departing": name,
        "cause": cause,
        "notes": notes,
        "layers": [layer.as_dict() for layer in layers],
    }


def reference(
    model: str | Path | onnx.ModelProto, network: Network, tensors: list[str]
) -> tuple[Runner, list[str]]:
    """The ANN in its normal form, ready to tell every layer, and remarks.

    Raises:
        UsageError: it is not the network that the SNN was made of.
    """
    source = read(model)
    ann, weights = normal_form(source.ann, network)
    if network.metadata.get("integer"):
        ann = with_neurons_between(ann)
    relays = (network.metadata.get("recipe") or {}).get("relays", False)
    ann, _ = arranged(ann, refine=refines(network.metadata), relays=relays)
    made = {name for node in ann.graph.node for name in node.output}
    ours, theirs = list(network.plan.outputs), [output.name for output in ann.graph.output]
    missing = [name for name in tensors if name not in made]
    if ours != theirs or missing:
        found = f"has {theirs}"
        if ours == theirs:
            found = f"too, but lacks the tensors {', '.join(missing[:5])}"
        raise UsageError(
            f"the ANN is another network: the SNN has the outputs {ours}, the ANN {found}",
            advice="give the file that the SNN was converted from, or convert again",
        )
    notes = strange_source(source, model, network.metadata)
    runner = network.backend.compile(with_outputs(ann, tensors))
    del weights  # until here they had to stay
    return runner, notes


class _Outputs:
    """Answers of both networks on all images."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.pairs: dict[str, list[tuple[Any, Any]]] = {name: [] for name in network.plan.outputs}

    def add(self, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """Keep one batch; answers are small."""
        for name, pairs in self.pairs.items():
            pairs.append((np.asarray(found[name]), np.asarray(expected[name])))

    @property
    def finite(self) -> bool:
        """Whether all answers of the SNN are numbers."""
        return all(np.isfinite(found).all() for pairs in self.pairs.values() for found, _ in pairs)

    def summary(self) -> dict[str, Any]:
        """Agreement in %, the relative error of every output, and the largest of them."""
        joined = {
            name: (np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
            for name, pairs in self.pairs.items()
        }
        decides = self.network.decides
        same = class_agreement(
            *(self.network.decided({decides: array}) for array in joined[decides])
        )
        errors = {
            name: relative_error(a, b) for name, (a, b) in joined.items() if b.dtype.kind == "f"
        }
        return {
            "agreement": None if same is None else 100.0 * same,
            "output_error": max(errors.values(), default=0.0) if self.finite else None,
            "output_errors": errors if self.finite else {},
        }
