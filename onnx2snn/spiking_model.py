"""The result of a conversion: the spiking network with what is known about its layers."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from onnx2snn import __version__
from onnx2snn.calibration.calibrate import LayerCalibration
from onnx2snn.energy.costs import macs_between, multiplications
from onnx2snn.energy.estimate import ann_energy
from onnx2snn.integer.units import described
from onnx2snn.recipes import Recipe
from onnx2snn.rewriting.classify import Placed, Role
from onnx2snn.rewriting.work import Work, measure_work
from onnx2snn.tuning.tune import Tuning
from onnx2snn.verification.verify import Check
from onnx2snn_runtime.early_exit import ExitRule
from onnx2snn_runtime.files.beside import kept_alive
from onnx2snn_runtime.files.models import save_model
from onnx2snn_runtime.format import FORMAT_VERSION
from onnx2snn_runtime.network import Network
from onnx2snn_runtime.neurons.refine import RefineFurther
from onnx2snn_runtime.planning.plan import tensor_shape

WORTH_RELAYS = 0.05  # share of MACs that meet values


@dataclass(frozen=True)
class Layer:
    """One spiking, pooling or graded layer.

    Attributes:
        name: name of the node.
        op: operator of the ANN.
        role: ``neuron``, ``pool`` or ``graded``.
        output: name of the output tensor.
        neurons: elements per image.
        macs: multiply-accumulates of the ANN per image between the layers before and this one.
        threshold: smallest and largest threshold, in units of the ANN's activation, or None.
        burst_limit: spikes per step at most, or None.
        saturated: share of calibration activations above burst_limit · threshold.
        dead: share of channels that were silent in calibration.
        error: relative error of the layer's mean against the ANN in the final check, or None.
    """

    name: str
    op: str
    role: str
    output: str
    neurons: int
    macs: int
    threshold: tuple[float, float] | None
    burst_limit: int | None
    saturated: float
    dead: float
    error: float | None

    def as_dict(self) -> dict[str, Any]:
        """The layer as JSON data."""
        return asdict(self)


@dataclass(repr=False)
class SpikingModel:
    """A converted network.

    Attributes:
        proto: the spiking network, an ONNX model of one timestep.
        ann: the normalised ANN that it stands for.
        recipe: the settings used.
        placed: nodes of the ANN with their roles.
        calibration: output tensor of a neuron to its calibration.
        check: comparison with the ANN, layer by layer.
        notes: what the passes did, and why a rewrite did not fire.
        tuning: what the tuner tried and chose, or None.
        integer: bits and proven steps of a network in whole numbers, or None.
        remarks: what was noticed about the calibration images.
        exit_rule: when images may leave early, or None.
    """

    proto: onnx.ModelProto
    ann: onnx.ModelProto
    recipe: Recipe
    placed: list[Placed]
    calibration: dict[str, LayerCalibration]
    check: Check
    notes: list[Any]
    tuning: Tuning | None = None
    integer: dict[str, Any] | None = None
    remarks: list[str] = field(default_factory=list)
    exit_rule: ExitRule | None = None

    def __post_init__(self) -> None:
        """Keep what lies beside the messages."""
        self._weights = kept_alive(self.proto, self.ann)

    def record(self) -> dict[str, Any]:
        """What the file says of the network, as JSON data."""
        return {
            "format_version": FORMAT_VERSION,
            "onnx2snn": __version__,
            "recipe": self.recipe.as_dict(),
            "recommended_t": self.recipe.recommended_timesteps,
            "integer": self.integer,
            "layers": [layer.as_dict() for layer in self.layers],
            "tuning": self.tuning.as_dict() if self.tuning else None,
            "work": self.work.as_dict(),
            "early_exit": self.exit_rule.to_json() if self.exit_rule else None,
            "notes": [str(note) for note in self.notes],
            "verified": self.check.passed,
        }

    @property
    def layers(self) -> list[Layer]:
        """Layers with a state, in order."""
        graph = self.ann.graph
        sizes = {}
        for value in [*graph.value_info, *graph.output]:
            count = 1
            for size in tensor_shape(value)[1:]:
                count *= size if isinstance(size, int) else 1
            sizes[value.name] = count
        stateful = [
            item for item in self.placed if item.role in (Role.NEURON, Role.POOL, Role.GRADED)
        ]
        macs = macs_between(self.ann, {item.node.output[0] for item in stateful})
        found = []
        for item in stateful:
            output = item.node.output[0]
            known = self.calibration.get(output)
            thresholds = known.threshold if known else None
            found.append(
                Layer(
                    name=item.node.name,
                    op=item.node.op_type,
                    role=item.role.value,
                    output=output,
                    neurons=sizes.get(output, 0),
                    macs=macs[output],
                    threshold=None
                    if thresholds is None
                    else (float(thresholds.min()), float(thresholds.max())),
                    burst_limit=self.recipe.burst_limit if known else None,
                    saturated=known.saturated if known else 0.0,
                    dead=known.dead if known else 0.0,
                    error=self.check.layer_errors.get(output),
                )
            )
        return found

    @property
    def work(self) -> Work:
        """What share of the work is spiking, linear and graded."""
        return measure_work(self.ann, self.placed)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the ANN per image."""
        return sum(multiplications(self.ann).values())

    @property
    def ann_energy_uj(self) -> float:
        """Microjoules per image of the ANN's multiply-accumulates."""
        return ann_energy(self.macs)

    def save(self, path: str | Path) -> None:
        """Write the ``.snn.onnx`` file, whole or not at all.

        Raises:
            StorageError: the disk refuses.
        """
        save_model(self.proto, path)

    def network(self, backend: str = "auto", threads: int | None = None) -> Network:
        """The spiking network, ready to run."""
        return Network(self.proto, backend=backend, threads=threads)

    def __repr__(self) -> str:
        """The short account; the protos would fill pages."""
        return f"<SpikingModel: {self.summary()}>"

    def summary(self) -> str:
        """A short account in plain text."""
        roles = [layer.role for layer in self.layers]
        work = self.work
        hints = []
        finer = sum(node.op_type.startswith(RefineFurther.family) for node in self.proto.graph.node)
        if finer:
            hints.append(f"shortcuts: {finer} layers have a second, finer output for them")
        if work.share("graded") >= WORTH_RELAYS and not self.recipe.relays:
            hints.append("--relays inserts neurons, so that these weights receive spikes")
        lines = [
            f"recipe {self.recipe.name}, burst limit {self.recipe.burst_limit}, "
            f"recommended T = {self.recipe.recommended_timesteps}",
            f"layers: {roles.count('neuron')} spiking, {roles.count('pool')} pooling, "
            f"{roles.count('graded')} graded; {self.macs / 1e6:.3g} M MACs per image",
            work.text,
            *hints,
            f"check: {self.check.text}",
        ]
        if self.exit_rule is not None:
            lines.append(f"early exit: {self.exit_rule.text}")
        if self.integer is not None:
            lines.insert(1, described(self.integer))
        return "\n".join(lines)
