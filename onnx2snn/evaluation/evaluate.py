"""Accuracy, agreement with the ANN, spikes and energy of a spiking network over timesteps."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx

from onnx2snn.energy.estimate import (
    MICROJOULE,
    PICOJOULE_MAC,
    EnergyMeter,
    ann_energy,
    quantised_energy,
)
from onnx2snn.evaluation.exit_score import exit_document, exit_rule
from onnx2snn.evaluation.journal import Journal, journal_path, make_key, model_digest
from onnx2snn.evaluation.measurement import Comparison, check_labels, quantised_bits
from onnx2snn.evaluation.stand_in import to_ann
from onnx2snn.evaluation.totals import Totals
from onnx2snn.evaluation.typical import TypicalMethod
from onnx2snn.evaluation.walk import Walk
from onnx2snn.source_model import read, strange_source
from onnx2snn.spiking_model import SpikingModel
from onnx2snn_runtime.data.input_preprocessing import Preprocessings, specs, told
from onnx2snn_runtime.data.inputs import open_inputs
from onnx2snn_runtime.errors import UsageError
from onnx2snn_runtime.feeds import check_batch_size, check_timesteps
from onnx2snn_runtime.network import Network, load

DEFAULT_TIMESTEPS = (1, 2, 4, 8)


def evaluate(
    network: Network | SpikingModel | str | Path,
    data: Any,
    *,
    timesteps: int | Sequence[int] | None = None,
    against: str | Path | onnx.ModelProto | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    early_exit: bool = False,
    typical: bool = False,
    backend: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
    preprocessing: str | Preprocessings | Mapping[str, str] | None = None,
    resume: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure a spiking network on images.

    Args:
        network: what ``convert`` returned, a loaded network, or the path of a ``.snn.onnx`` file.
        data: images, with or without labels (see ``open_inputs``).
        timesteps: steps after which the answer is measured; default: 1, 2, 4, 8 and what the
            converter recommends.
        against: the ANN to compare with; default: the ANN that the SNN file stands for.
        limit: use only the first images.
        batch_size: images at once at most; default: what runs fastest.
        early_exit: also measure early exit.
        typical: also run the typical method (`typical`) until it is as accurate as this network is
            at the recommended step, or at the last measured if that is not among ``timesteps``;
            without labels, until it agrees as often with the ANN.
        backend: where to run.
        threads: CPU threads: of all workers together, with ``ray`` of each.
        workers: processes that share the work, default 1, with ``ray`` as many as the cluster has
            processors (or GPUs) for; the result is the same to the last digit.
        ray: ``auto`` or the address of a Ray cluster whose machines share the work.
        preprocessing: overrides what is stored in the file; of all inputs, or by their names, as
            in ``convert``.
        resume: keep a journal beside this file (the network's), and go on where an evaluation
            of the same network, data and settings was stopped.
        progress: is told how many images of how many are done.

    Returns:
        The document that ``onnx2snn eval --json`` prints.

    Raises:
        Interrupted: by Ctrl-C, with the document of the images so far.
        DataError: the data does not fit the network.
        UsageError: a number is out of range.
        BackendError: workers died again and again, or there is no such cluster.
    """
    if isinstance(network, SpikingModel):
        network = network.network(backend, threads=threads)
    elif not isinstance(network, Network):
        network = load(network, backend=backend, threads=threads)
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}")
    if timesteps is None:
        timesteps = (*DEFAULT_TIMESTEPS, network.recommended_timesteps)
    steps = check_timesteps(timesteps, {}, sequence=False)
    images = open_inputs(data, list(network.input_shapes))
    count = images.count if limit is None else min(limit, images.count)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, got {workers}")
    size = network.images_to_read if batch_size is None else check_batch_size(batch_size)
    width = network.classes
    if width is not None and images.labels is not None:
        check_labels(images.labels[:count], width, network)
    applied = told(preprocessing) or network.preprocessing
    evaluation = _Evaluation(network, against, steps, early_exit)
    method = TypicalMethod(network, evaluation.task.against) if typical else None
    walk = Walk(network, images, count, size, applied, workers, ray, progress)
    with _Journals(resume, lambda: {
        "network": model_digest(network.model),
        "ann": model_digest(evaluation.reference),
        "data": images.sha256(),
        "images": count,
        "timesteps": steps,
        "early_exit": early_exit,
        "batch_size": size,
        "backend": network.backend.name,
        "compute": network.backend.compute,
        "preprocessing": specs(applied),
    }) as journals:  # fmt: skip
        result = evaluation.run(walk, journals.open("evaluation"))
        if method is not None:
            journal = journals.open("typical")
            result["typical"] = evaluation.beside(method, result, walk, journal)
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


class _Evaluation:
    """The network, what it is compared with, and the totals so far."""

    def __init__(
        self, network: Network, against: Any, steps: list[int], early_exit: bool = False
    ) -> None:
        self.network, self.steps = network, steps
        self.rule = exit_rule(network) if early_exit else None
        self.meter = EnergyMeter(network.model, network.plan)
        self.recipe = dict(network.metadata.get("recipe") or {})
        self.recommended = network.recommended_timesteps
        self.task = Comparison(tuple(steps), self.read_ann(against), early_exit)
        self.totals = Totals()

    @property
    def reference(self) -> onnx.ModelProto:
        """The ANN to compare with."""
        against = self.task.against
        return to_ann(self.network.model) if against is None else against

    def read_ann(self, against: Any) -> onnx.ModelProto | None:
        """Another ANN to compare with, if one is given."""
        if against is None:
            return None
        given = read(against)
        ours = list(self.network.plan.outputs)
        theirs = [output.name for output in given.ann.graph.output]
        if theirs != ours:
            raise UsageError(
                f"--against is another network: its outputs are {theirs}, the SNN's are {ours}"
            )
        for remark in strange_source(given, against, self.network.metadata):
            warnings.warn(f"--against: {remark}", UserWarning, stacklevel=3)
        return given.ann

    def run(self, walk: Walk, journal: Journal | None = None) -> dict[str, Any]:
        """Measure all batches that the journal does not know."""
        if journal is not None and journal.state is not None:
            self.totals = Totals.from_dict(journal.state)
        try:
            walk.measure(
                self.task,
                self.totals,
                lambda totals: journal.append(totals.as_dict()) if journal else None,
            )
        except KeyboardInterrupt as stop:
            if not self.totals.images:
                raise
            raise Interrupted(self.document()) from stop
        return self.document()

    def beside(
        self,
        method: TypicalMethod,
        result: dict[str, Any],
        walk: Walk,
        journal: Journal | None = None,
    ) -> dict[str, Any] | None:
        """The typical method at this network's accuracy; None where nothing is a class."""
        truths = self.totals.truths
        if not truths["classes"]:
            return None
        measured = {row["t"]: row for row in result["steps"]}
        row = measured.get(self.recommended) or result["steps"][-1]
        measure = "accuracy" if truths["labelled"] else "agreement"
        try:
            found = method.measure(walk, row[measure], labelled=truths["labelled"], journal=journal)
        except KeyboardInterrupt as stop:
            raise Interrupted(result) from stop
        scores = {"accuracy": None, "agreement": None, measure: found.pop("right")}
        return {"t": found.pop("t"), **scores, **found, "beside_t": row["t"]}

    def document(self) -> dict[str, Any]:
        """Everything measured, with the keys that ``eval --json`` promises."""
        totals, macs = self.totals, self.meter.macs
        samples = totals.images
        self.meter.total.restore(totals.table)
        skipped = totals.counted("skipping_macs") / samples
        return {
            "samples": samples,
            "ann": {
                "accuracy": self.percent("ann/right"),
                "macs_per_image": macs,
                "energy_uj": ann_energy(macs),
            },
            "ann_skip_zeros": {"energy_uj": skipped * PICOJOULE_MAC * MICROJOULE},
            "quantised_ann": {
                "bits": quantised_bits(self.network),
                "accuracy": self.percent("quantised/right"),
                "agreement": self.percent("quantised/agree"),
                "energy_int_uj": quantised_energy(macs),
            },
            "typical": None,
            **({"early_exit": exit_document(self.rule, totals, self.meter)} if self.rule else {}),
            "steps": [self.row(t) for t in self.steps],
            "recipe": {
                **self.recipe,
                "burst_limit": int(self.recipe.get("burst_limit", 1)),
                "arithmetic": "int8" if self.network.metadata.get("integer") else "float",
            },
            "recommended_t": self.recommended,
        }

    def row(self, t: int) -> dict[str, Any]:
        """What was measured after step t."""
        totals = self.totals
        outputs = self.network.plan.outputs  # whole numbers are no measure beside real ones
        real = [name for name in outputs if totals.truths[f"real/{name}"]] or outputs
        errors = [
            math.sqrt(totals.sum(f"t{t}/distance/{name}") / max(totals.sum(f"norm/{name}"), 1e-30))
            for name in real
        ]
        labelled = totals.truths["labelled"]
        return {
            "t": t,
            "accuracy": self.percent(f"t{t}/right"),
            "top5": self.percent(f"t{t}/top5"),
            "agreement": self.percent(f"t{t}/agree"),
            "lost": totals.counted(f"t{t}/lost") if labelled else None,
            "gained": totals.counted(f"t{t}/gained") if labelled else None,
            "output_error": max(errors, default=0.0) if all(map(math.isfinite, errors)) else None,
            **self.meter.up_to(t, totals.images),
        }

    def percent(self, name: str) -> float | None:
        """A count of images in percent, None where it means nothing."""
        truths = self.totals.truths
        needed = {"agree": ["classes"], "top5": ["labelled", "scores"]}
        if not all(truths[key] for key in needed.get(name.rpartition("/")[2], ["labelled"])):
            return None
        return 100.0 * self.totals.counted(name) / self.totals.images
