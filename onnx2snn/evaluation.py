"""Accuracy, agreement with the ANN, spikes and energy of a spiking network over timesteps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx2snn.calibrate import with_outputs
from onnx2snn.costs import WEIGHTED, shapes_of, weights_met
from onnx2snn.decision import is_classes
from onnx2snn.energy import MICROJOULE, PICOJOULE_MAC, EnergyMeter, ann_energy, quantised_energy
from onnx2snn.exit_score import EarlyExitScore
from onnx2snn.journal import Journal, journal_path, make_key, model_digest
from onnx2snn.stand_in import equal_bits, to_ann
from onnx2snn.typical import Totals, TypicalMethod
from onnx2snn_runtime.backends.base import Runner
from onnx2snn_runtime.data import open_data
from onnx2snn_runtime.errors import DataError, UsageError
from onnx2snn_runtime.files import load_model
from onnx2snn_runtime.network import Network, check_timesteps, load
from onnx2snn_runtime.preprocessing import Preprocessing

DEFAULT_TIMESTEPS = (1, 2, 4, 8)
Array = Any


@dataclass
class _Score:
    """Running comparison of one network with labels and with the ANN."""

    right: int = 0
    top5: int = 0
    agree: int = 0
    lost: int = 0
    gained: int = 0
    distance: dict[str, float] = field(default_factory=dict)

    def add(
        self, outputs: dict[str, Array], ann: dict[str, Array], labels: Array, classes: bool
    ) -> None:
        """Count one batch."""
        for name, expected in ann.items():
            difference = np.asarray(outputs[name], np.float64) - np.asarray(expected, np.float64)
            self.distance[name] = _add_squares(self.distance.get(name, 0.0), difference)
        if not classes:
            return
        first = next(iter(ann))
        predicted, reference = outputs[first].argmax(axis=1), ann[first].argmax(axis=1)
        self.agree += int((predicted == reference).sum())
        if labels is not None:
            good, ann_good = predicted == labels, reference == labels
            self.right += int(good.sum())
            self.lost += int((ann_good & ~good).sum())
            self.gained += int((good & ~ann_good).sum())
            best = np.argsort(-outputs[first], axis=1, kind="stable")[:, :5]
            self.top5 += int((best == labels[:, np.newaxis]).any(axis=1).sum())


def evaluate(
    network: Network | str | Path,
    data: Any,
    *,
    timesteps: Sequence[int] = DEFAULT_TIMESTEPS,
    against: str | Path | onnx.ModelProto | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    early_exit: bool = False,
    typical: bool = False,
    backend: str = "auto",
    threads: int | None = None,
    preprocessing: Preprocessing | None = None,
    resume: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure a spiking network on images.

    Args:
        network: a loaded network, or the path of a ``.snn.onnx`` file.
        data: images, with or without labels (see ``open_data``).
        timesteps: steps after which the answer is measured.
        against: the ANN to compare with; default: the ANN that the SNN file stands for.
        limit: use only the first images.
        batch_size: images at once at most; default: what runs fastest.
        early_exit: also measure early exit.
        typical: also run the typical method (`typical`) until it is as accurate as this network is
            at the recommended step, or at the last measured if that is not among ``timesteps``;
            without labels, until it agrees as often with the ANN.
        backend: where to run.
        threads: CPU threads.
        preprocessing: overrides what is stored in the file.
        resume: keep a journal beside this file (the network's), and go on where an evaluation
            of the same network, data and settings was stopped.
        progress: is told how many images of how many are done.

    Returns:
        The document that ``onnx2snn eval --json`` prints.

    Raises:
        Interrupted: by Ctrl-C, with the document of the images so far.
        DataError: the data does not fit the network.
        UsageError: a number is out of range.
    """
    if not isinstance(network, Network):
        network = load(network, backend=backend, threads=threads)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}")
    if len(network.input_shapes) != 1:
        raise DataError("eval feeds networks with one input; this one has several")
    steps = check_timesteps(list(timesteps), {}, sequence=False)
    dataset = open_data(data)
    count = dataset.count if limit is None else min(limit, dataset.count)
    if resume is not None and early_exit:
        raise UsageError("--resume and --early-exit do not go together: the journal holds no exits")
    size, applied = batch_size or network.images_to_read, preprocessing or network.preprocessing
    evaluation = _Evaluation(network, against, steps, early_exit)
    method = TypicalMethod(network) if typical else None

    def batches() -> Iterator[tuple[Array, Array]]:
        return evaluation.batches(dataset, count, size, applied)

    with _Journals(resume, lambda: {
        "network": model_digest(network.model),
        "ann": model_digest(evaluation.reference),
        "data": dataset.sha256(),
        "images": count,
        "timesteps": steps,
        "batch_size": size,
        "backend": network.backend.name,
        "compute": network.backend.compute,
        "preprocessing": applied.spec() if applied else None,
    }) as journals:  # fmt: skip
        result = evaluation.run(batches, count, progress, journals.open("evaluation"))
        if method is not None:
            journal = journals.open("typical")
            result["typical"] = evaluation.beside(method, result, batches, progress, journal)
        journals.remove()
    return result


class _Journals(ExitStack):
    """The journals of one evaluation, a part each; none without ``resume``."""

    def __init__(self, resume: str | Path | None, settings: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self.resume = resume
        self.settings = {} if resume is None else settings()
        self.opened: list[Journal] = []

    def open(self, part: str) -> Journal | None:
        if self.resume is None:
            return None
        key = make_key({**self.settings, "part": part})
        self.opened.append(self.enter_context(Journal(journal_path(self.resume, key), key)))
        return self.opened[-1]

    def remove(self) -> None:
        """The evaluation is done and its result is told."""
        for journal in self.opened:
            journal.remove()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in an evaluation.

    Attributes:
        document: what was measured so far.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document


def _add_squares(total: float, values: Array) -> float:
    """Add the squares of [n,*] image by image, so that the sum does not depend on the batches."""
    for image in np.square(np.asarray(values, np.float64)).reshape(len(values), -1):
        total += float(image.sum())
    return total


class _Evaluation:
    def __init__(
        self, network: Network, against: Any, steps: list[int], early_exit: bool = False
    ) -> None:
        self.network, self.steps = network, steps
        self.early = EarlyExitScore(network) if early_exit else None
        self.meter = EnergyMeter(network.model, network.plan)
        self.stand_in = to_ann(network.model)
        self.recipe = dict(network.metadata.get("recipe") or {})
        self.recommended = network.recommended_timesteps
        self.limit = int(self.recipe.get("burst_limit", 1))
        self.bits = equal_bits(self.limit, self.recommended)
        levels = float(2**self.bits - 1)
        names = [unit.name for unit in network.plan.stateful if unit.operator.spiking]
        quantised = to_ann(network.model, dict.fromkeys(names, levels))
        compile_model = network.backend.compile
        self.reference = self.read_ann(against)
        self.ann: Runner = compile_model(self.reference)
        self.quantised: Runner = compile_model(quantised)
        self.skipping = _SkippedZeros(self.stand_in, compile_model)
        self.scores = {t: _Score() for t in steps}
        self.ann_score, self.quantised_score = _Score(), _Score()
        self.norms: dict[str, float] = {}
        self.classes = True
        self.labelled = True

    def read_ann(self, against: Any) -> onnx.ModelProto:
        """The ANN to compare with."""
        if against is None:
            return self.stand_in
        model = against if isinstance(against, onnx.ModelProto) else load_model(against)
        ours = list(self.network.plan.outputs)
        theirs = [output.name for output in model.graph.output]
        if theirs != ours:
            raise UsageError(
                f"--against is another network: its outputs are {theirs}, the SNN's are {ours}"
            )
        return model

    def run(
        self,
        batches: Callable[[], Iterator[tuple[Array, Array]]],
        count: int,
        progress: Callable[[int, int], None],
        journal: Journal | None = None,
    ) -> dict[str, Any]:
        done, state = 0, journal.state if journal else None
        known = self.restore(state) if state else 0
        try:
            for images, labels in batches():
                done += len(images)
                if done > known:
                    self.add(images, labels)
                    state = self.state(done)
                    if journal is not None:
                        journal.append(state)
                progress(done, count)
        except KeyboardInterrupt as stop:
            if not state:
                raise
            raise Interrupted(self.document(self.restore(state))) from stop
        if not done:
            raise DataError("there is no image to evaluate")
        return self.document(done)

    def beside(
        self,
        method: TypicalMethod,
        result: dict[str, Any],
        batches: Callable[[], Iterator[tuple[Array, Array]]],
        progress: Callable[[int, int], None],
        journal: Journal | None = None,
    ) -> dict[str, Any] | None:
        """The typical method at this network's accuracy; None where nothing is a class."""
        if not self.classes:
            return None
        measured = {row["t"]: row for row in result["steps"]}
        row = measured.get(self.recommended) or result["steps"][-1]
        measure = "accuracy" if self.labelled else "agreement"

        def answers() -> Iterator[tuple[dict[str, Array], Array]]:
            for images, labels in batches():
                feeds, _ = self.network.check_feeds(images)
                ours = next(iter(self.ann(feeds).values())).argmax(axis=1)
                yield feeds, labels if self.labelled else ours

        try:
            found = method.measure(
                answers,
                row[measure],
                lambda done: progress(done, result["samples"]),
                Totals(**journal.state) if journal and journal.state else None,
                lambda totals: journal.append(asdict(totals)) if journal else None,
            )
        except KeyboardInterrupt as stop:
            raise Interrupted(result) from stop
        scores = {"accuracy": None, "agreement": None, measure: found.pop("right")}
        return {"t": found.pop("t"), **scores, **found, "beside_t": row["t"]}

    def state(self, done: int) -> dict[str, Any]:
        """All totals after so many images, as JSON data."""
        return {
            "done": done,
            "scores": [asdict(score) for score in self.all_scores()],
            "norms": dict(self.norms),
            "traffic": self.meter.total.as_dict(),
            "skipped": self.skipping.macs,
            "classes": self.classes,
            "labelled": self.labelled,
        }

    def restore(self, state: dict[str, Any]) -> int:
        """Take totals over; returns how many images they are of."""
        for score, stored in zip(self.all_scores(), state["scores"], strict=True):
            vars(score).update(stored)
        self.norms = dict(state["norms"])
        self.meter.total.restore(state["traffic"])
        self.skipping.macs = state["skipped"]
        self.classes, self.labelled = state["classes"], state["labelled"]
        return int(state["done"])

    def all_scores(self) -> list[_Score]:
        """Every running comparison, in a fixed order."""
        return [*self.scores.values(), self.ann_score, self.quantised_score]

    def batches(
        self, dataset: Any, count: int, size: int, preprocessing: Preprocessing | None
    ) -> Iterator[tuple[Array, Array]]:
        ((_, shape),) = self.network.input_shapes.items()
        expected = tuple(None if isinstance(d, str) else d for d in shape[1:])
        done = 0
        for images, labels in dataset.batches(size, expected, preprocessing):
            left = count - done
            done += len(images)
            yield images[:left], None if labels is None else labels[:left]
            if done >= count:
                return

    def add(self, images: Array, labels: Array) -> None:
        """Measure one batch."""
        feeds, _ = self.network.check_feeds(images)
        expected = self.ann(feeds)
        first = next(iter(expected.values()))
        self.classes = is_classes(first)
        self.labelled = self.labelled and labels is not None and self.classes
        if labels is not None and self.classes and int(labels.max()) >= first.shape[1]:
            raise DataError(
                f"label {int(labels.max())} is out of range: "
                f"the network has {first.shape[1]} classes"
            )
        for name, value in expected.items():
            self.norms[name] = _add_squares(self.norms.get(name, 0.0), value)
        answers, traffic = self.network.observe(feeds, self.steps, self.meter.observer)
        for part in traffic:
            self.meter.add(part)
        for t, outputs in answers.items():
            self.scores[t].add(outputs, expected, labels, self.classes)
        self.ann_score.add(expected, expected, labels, self.classes)
        self.quantised_score.add(self.quantised(feeds), expected, labels, self.classes)
        self.skipping.add(feeds)
        if self.early:
            self.early.add(feeds, first, labels if self.labelled else None)

    def document(self, samples: int) -> dict[str, Any]:
        """Everything measured, with the keys that ``eval --json`` promises."""
        macs = self.meter.macs

        def percent(count: int, known: bool) -> float | None:
            return 100.0 * count / samples if known else None

        rows = []
        for t, score in self.scores.items():
            error = max(
                (np.sqrt(d / max(self.norms[name], 1e-30)) for name, d in score.distance.items()),
                default=0.0,
            )
            rows.append({
                "t": t,
                "accuracy": percent(score.right, self.labelled),
                "top5": percent(score.top5, self.labelled),
                "agreement": percent(score.agree, self.classes),
                "lost": score.lost if self.labelled else None,
                "gained": score.gained if self.labelled else None,
                "output_error": float(error),
                **self.meter.up_to(t, samples),
            })  # fmt: skip
        return {
            "samples": samples,
            "ann": {
                "accuracy": percent(self.ann_score.right, self.labelled),
                "macs_per_image": macs,
                "energy_uj": ann_energy(macs),
            },
            "ann_skip_zeros": {"energy_uj": self.skipping.energy(samples)},
            "quantised_ann": {
                "bits": self.bits,
                "accuracy": percent(self.quantised_score.right, self.labelled),
                "agreement": percent(self.quantised_score.agree, self.classes),
                "energy_int_uj": quantised_energy(macs),
            },
            "typical": None,
            **({"early_exit": self.early.document()} if self.early else {}),
            "steps": rows,
            "recipe": {**self.recipe, "burst_limit": self.limit},
            "recommended_t": self.recommended,
        }


class _SkippedZeros:
    """MACs of the ANN whose input activation is not zero."""

    def __init__(self, ann: onnx.ModelProto, compile_model: Callable[[Any], Runner]) -> None:
        weights = {item.name: item for item in ann.graph.initializer}
        shapes = shapes_of(ann)
        self.readers: list[tuple[str, Array]] = [
            (node.input[0], weights_met(node, weights, shapes).reshape(-1))
            for node in ann.graph.node
            if node.op_type in WEIGHTED and node.input[1] in weights and node.input[0] in shapes
        ]
        inputs = {value.name for value in ann.graph.input}
        wanted = dict.fromkeys(name for name, _ in self.readers if name not in inputs)
        self.run = compile_model(with_outputs(ann, wanted))
        self.macs = 0.0

    def add(self, feeds: dict[str, Array]) -> None:
        """Count one batch."""
        values = {**feeds, **self.run(feeds)}
        for name, weight_count in self.readers:
            active = (values[name] != 0).reshape(len(values[name]), -1)
            self.macs += float((active @ weight_count).sum())

    def energy(self, images: int) -> float:
        """Microjoules per image."""
        return self.macs / images * PICOJOULE_MAC * MICROJOULE
