"""What must hold for any ONNX model before work on it starts: versions, names, weights, wiring.

Operators are not judged here. Every check returns all its findings.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx

from onnx2snn_runtime.errors import Finding, ModelError
from onnx2snn_runtime.files.attribute_checks import (
    attribute_findings,
    expansion_findings,
    input_findings,
)
from onnx2snn_runtime.files.disk import shown
from onnx2snn_runtime.files.tensor_checks import (
    all_tensors,
    at,
    is_elsewhere,
    tensor_findings,
    value_findings,
    variance_findings,
)
from onnx2snn_runtime.files.wiring import function_cycles, wiring_findings

# The newest versions that the tests cover; onnx and onnxruntime may know newer ones.
NEWEST_IR_VERSION = 14
NEWEST_OPSET = 28


def check_model(model: onnx.ModelProto, name: str = "the model") -> None:
    """Refuse a model that is broken or newer than what is known, with all findings at once.

    The checks come in stages, since a later one needs what an earlier one guarantees: versions and
    names, then shapes and sizes of the weights, then their values and the wiring. Nodes in an order
    that no execution could follow are accepted (see `wiring.is_sorted`), cycles are not.

    Args:
        model: the model; it is not changed.
        name: how to call it in the message, usually the file name.

    Raises:
        ModelError: with one finding per fault of the first stage that has any.
    """
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ModelError(
            f"{name} holds no graph: it is not an ONNX model",
            advice="export the network to ONNX; a TensorFlow .pb is not ONNX: "
            "python -m tf2onnx.convert --graphdef m.pb --inputs x:0 --outputs y:0 --output m.onnx",
        )
    _refuse(version_findings(model) + name_findings(model), name)
    _refuse(stored_findings(model), name)
    _refuse(function_cycles(model), name)
    _refuse(
        duplicate_findings(model.graph)
        + wiring_findings(model)
        + expansion_findings(model)
        + value_findings(model)
        + variance_findings(model)
        + attribute_findings(model)
        + list(input_findings(model)),
        name,
    )


def stored_findings(model: onnx.ModelProto) -> list[Finding]:
    """Tensors whose sizes do not fit, or whose values are not in memory.

    What still lies in another file would be read later from whatever folder the process is in.
    """
    findings: list[Finding] = []
    for tensor, place, _ in all_tensors(model):
        if is_elsewhere(tensor):
            advice = "give the path of the file, or onnx.load it with its external data"
            findings.append(at(place, "the values lie in another file", advice))
        findings += tensor_findings(tensor, place)
    return findings


def check_versions_and_names(model: onnx.ModelProto, name: str = "the model") -> None:
    """The first stage of `check_model`, which needs no weights.

    Raises:
        ModelError: with one finding per fault.
    """
    _refuse(version_findings(model) + name_findings(model), name)


def _refuse(findings: Sequence[Finding], name: str) -> None:
    if findings:
        count = "a fault" if len(findings) == 1 else f"{len(findings)} faults"
        raise ModelError(f"{count} in {name}", findings)


def check_with_onnx(model: onnx.ModelProto, name: str = "the model", *, full: bool = True) -> None:
    """Let onnx's own checker judge a model, attributes and inferred shapes included.

    It stops at its first fault, and refuses unsorted nodes and operators that it does not know:
    call it on what is sorted and swept.

    Raises:
        ModelError: with the checker's words.
    """
    try:
        onnx.checker.check_model(model, full_check=full)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        UnicodeDecodeError,
        ValueError,
        TypeError,
        RuntimeError,
    ) as problem:
        raise ModelError(f"onnx does not accept {name}: {shown(problem, 2000)}") from problem


def version_findings(model: onnx.ModelProto) -> list[Finding]:
    """Versions that are missing, contradict each other or are newer than what is known."""
    findings = []
    if model.ir_version < 1:
        findings.append(Finding(f"the IR version is {model.ir_version}: not a valid ONNX model"))
    elif model.ir_version > NEWEST_IR_VERSION:
        findings.append(
            Finding(
                f"IR version {model.ir_version} is newer than {NEWEST_IR_VERSION}, the newest "
                "that is tested",
                "upgrade onnx2snn and onnx, or export with an older IR version",
            )
        )
    versions: dict[str, set[int]] = {}
    for entry in model.opset_import:
        domain = entry.domain if entry.domain != "ai.onnx" else ""
        versions.setdefault(domain, set()).add(entry.version)
    for domain, found in versions.items():
        if len(found) > 1:
            text = ", ".join(map(str, sorted(found)))
            findings.append(Finding(f"operator set {shown(domain)!r} is imported as {text}"))
    newest = max(versions.get("", {1}))
    if not versions:
        findings.append(Finding("the model imports no operator set", "export it again"))
    elif newest > NEWEST_OPSET:
        findings.append(
            Finding(
                f"opset {newest} is newer than {NEWEST_OPSET}, the newest that is tested",
                f"upgrade onnx2snn, or export with opset_version={NEWEST_OPSET} or lower",
            )
        )
    elif "" in versions and min(versions[""]) < 1:
        findings.append(Finding(f"opset {min(versions[''])} does not exist", "export it again"))
    return findings


def name_findings(model: onnx.ModelProto) -> list[Finding]:
    """Strings that are not valid UTF-8, as hex; reading such a model fails later and elsewhere."""
    return [
        Finding(f"{place} is not valid UTF-8: hex {text[:32].hex()}", "rename it and export again")
        for place, text in _broken_strings(model, "model")
    ]


def _broken_strings(message: Any, place: str) -> Iterator[tuple[str, bytes]]:
    """Every string field whose bytes are not UTF-8: protobuf hands it out as bytes."""
    for field, value in message.ListFields():
        path = f"{place}.{field.name}"
        if field.type == field.TYPE_STRING:
            is_single = isinstance(value, str | bytes)
            for index, text in enumerate([value] if is_single else value):
                if isinstance(text, bytes):
                    yield (path if is_single else f"{path}[{index}]"), text
        elif field.type == field.TYPE_MESSAGE:
            if hasattr(value, "ListFields"):
                yield from _broken_strings(value, path)
            else:
                for index, part in enumerate(value):
                    yield from _broken_strings(part, f"{path}[{index}]")


def duplicate_findings(graph: onnx.GraphProto) -> list[Finding]:
    """Tensor names that are defined more than once in the main graph."""
    inputs = Counter(value.name for value in graph.input)
    initializers = Counter(_initializer_names(graph))
    produced = Counter(name for node in graph.node for name in node.output if name)
    findings = []
    for name in dict.fromkeys([*inputs, *initializers, *produced]):
        # An initializer may repeat the name of an input: it is the default of that input.
        given = max(inputs[name], initializers[name])
        if given + produced[name] > 1:
            what = [
                f"{counter[name]} × {word}"
                for counter, word in (
                    (inputs, "graph input"),
                    (initializers, "initializer"),
                    (produced, "node output"),
                )
                if counter[name]
            ]
            findings.append(
                Finding(
                    f"the name is defined more than once ({', '.join(what)})",
                    "give every tensor a name of its own",
                    tensor=shown(name),
                )
            )
    return findings


def _initializer_names(graph: onnx.GraphProto) -> Iterable[str]:
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
