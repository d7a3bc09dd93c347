"""External data of a model: read, or mapped where it is large, after checks of every size."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import TensorProto

from onnx2snn_runtime.errors import Finding, ModelError, StorageError
from onnx2snn_runtime.files.beside import leaving, map_file, refer
from onnx2snn_runtime.files.disk import shown
from onnx2snn_runtime.files.tensor_checks import (
    Stored,
    all_tensors,
    at,
    byte_count,
    element_count,
    is_external,
    tensor_findings,
)

_KEYS = frozenset({"location", "offset", "length", "checksum", "basepath"})


def load_external(model: onnx.ModelProto, path: Path, budget: int) -> None:
    """Give every tensor of a model its values.

    Args:
        model: is changed in place.
        path: its file, in whose folder the data lies.
        budget: bytes of external data at most.

    Raises:
        ModelError: with every entry that is wrong, or that names what is no file of the folder.
        StorageError: the disk fails.
    """
    external = [stored for stored in all_tensors(model) if is_external(stored.tensor)]
    findings: list[Finding] = []
    for stored in external:
        findings += _external_findings(stored)
    findings = findings or _missing_files(external, path.parent)
    total = sum(byte_count(stored.tensor) for stored in external)
    if not findings and total > budget:
        raise ModelError(
            f"{shown(path.name)} needs {total:,} bytes of external data; "
            f"{max(budget, 0):,} are left of the limit"
        )
    if not findings:
        main = {id(tensor) for tensor in model.graph.initializer}
        mapped = leaving({
            id(tensor): byte_count(tensor)
            for tensor, *_ in external
            if id(tensor) in main and byte_count(tensor) >= element_count(tensor)  # not packed
        })  # fmt: skip
        for tensor, place, _ in external:
            findings += _read(tensor, place, path.parent, is_mapped=id(tensor) in mapped)
    if findings:
        raise ModelError(f"external data of {shown(path.name)} cannot be read", findings)


def _external_findings(stored: Stored) -> list[Finding]:
    """What is wrong with an entry of external data, before any file is touched."""
    tensor, place, is_sparse = stored
    if is_sparse:  # onnx's gate does not look at these
        return [at(place, "a sparse tensor with external data", "store it dense")]
    if tensor.data_type == onnx.TensorProto.STRING:
        return [at(place, "strings cannot be external data")]
    findings = list(tensor_findings(tensor, place))
    if findings:
        return findings
    entries = {entry.key: entry.value for entry in tensor.external_data}
    unknown = sorted(set(map(str, entries)) - _KEYS)
    if unknown:
        return [at(place, f"unknown key of external data: {shown(unknown[0])}", "export it again")]
    expected = byte_count(tensor)
    try:
        length = int(entries.get("length", expected))
    except ValueError:
        return [at(place, f"length {shown(entries['length'], 40)!r} is no number")]
    if length != expected:
        why = f"dimensions {list(tensor.dims)} need {expected:,} bytes, the entry says {length:,}"
        return [at(place, why, "the file is damaged: export it again")]
    if "length" not in entries:
        # Without a length everything to the end of the file would be read.
        tensor.external_data.add(key="length", value=str(expected))
    return []


def _missing_files(external: Iterable[Stored], folder: Path) -> list[Finding]:
    """Files that are not there, once each; what leaves the folder is judged by `_read`."""
    asking: dict[str, list[str]] = {}
    for tensor, *_ in external:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        asking.setdefault(entries.get("location", ""), []).append(tensor.name)
    return [
        Finding(
            f"there is no {shown(location)} beside the model, which holds {len(names)} of its "
            "tensors",
            "copy it into the folder of the model, under this name",
            tensor=shown(names[0]),
        )
        for location, names in asking.items()
        if location
        and not Path(location).is_absolute()
        and ".." not in Path(location).parts
        and not os.path.lexists(folder / location)
    ]


def _read(tensor: TensorProto, place: Finding, folder: Path, *, is_mapped: bool) -> list[Finding]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_mapped:
                return _map(tensor, place, folder)
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as problem:
        text = shown(problem, 600)
        advice = "copy the file that the tensor names into the folder of the model"
        if "link" in text:
            advice = "links are not followed: copy the files into a plain folder (cp -L)"
        elif "outside" in text or "absolute" in text:
            advice = "external data must lie in the folder of the model"
        return [at(place, text, advice)]
    except OSError as problem:
        raise StorageError(f"cannot read external data: {problem.strerror or problem}") from problem
    return []


def _map(tensor: TensorProto, place: Finding, folder: Path) -> list[Finding]:
    """Map the values instead of reading them; the first byte goes through onnx's own gate."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    first, length = int(entries.get("offset") or 0), byte_count(tensor)
    one = TensorProto(name=tensor.name, data_type=TensorProto.UINT8, dims=[1])
    refer(one, entries["location"], first, 1)
    onnx.external_data_helper.load_external_data_for_tensor(one, str(folder))
    source, size = map_file(folder / entries["location"])
    if first + length > size:
        why = f"bytes {first:,} to {first + length:,} are asked for, the file has {size:,}"
        return [at(place, why, "the file is damaged: copy or export it again")]
    refer(tensor, source, first, length)
    return []
