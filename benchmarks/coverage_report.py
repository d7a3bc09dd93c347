"""Makes ``docs/coverage.md`` and a JSON file of what ``benchmarks/coverage_table.py`` measured."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from coverage_networks import Network

DEEP = 20  # spiking layers above which a network is deep
LIMITS = {  # run, T: largest relative error up to DEEP spiking layers, and deeper
    ("rate", "64"): (0.1, 0.25),
    ("rate", "256"): (0.03, 0.08),
    ("refine", "12"): (0.02, 0.02),
    ("refine", "16"): (0.003, 0.003),
}
INTRODUCTION = """# Coverage

Which architectures convert, and how exactly. Made by `benchmarks/coverage_table.py`, nothing
by hand.
Weights are random, which is harsher than trained weights, with the BatchNormalization statistics
of 256 images; images are smooth random fields, 64 for calibration and 4 others for the errors.
Error: L2 distance of the outputs to onnxruntime's on the
original file, relative to the outputs' norm / relative to their deviation over the images.

- *rate*: signed neurons, γ = 15, v0 = 1/2, one threshold per layer, 2/15 of the largest activation.
- *refine*, *fast*: the recipes as they are.
- *sensitivity*: relative change of the ANN's own outputs when its input changes by 0.01 % of noise.
  Where it is large no approximation of the activations can be close. The last EfficientNets end in
  a Softmax that is all or nothing on such images: it hides its sensitivity, and an error is √2.
- *work*: share of MACs that spikes drive (with `--relays` it is all between head and tail), and of
  elements that are sent as graded values.
- *other exporter*: the same network from the other exporter of PyTorch, error at T = 64 (*rate*).

Networks are measured one by one and kept, so that a row may come from an earlier state of the
program; `--again` measures all anew.

A value above its limit is **bold**. Limits, up to 20 spiking layers / deeper: *rate* 0.1 / 0.25 at
T = 64, 0.03 / 0.08 at T = 256; *refine* 0.02 at T = 12, 0.003 at T = 16.
"""


def write(
    options: argparse.Namespace,
    chosen: list[Network],
    record_path: Callable[[Path, Network, str, str], Path],
) -> None:
    """Collect the results, write the JSON file and, if asked for, the page."""
    records = []
    for network in chosen:
        for exporter in network.exporters:
            found = {
                kind: read(record_path(options.folder, network, exporter, kind))
                for kind in ("export", "result", "conversion")
            }
            records.append({
                "name": network.name, "library": network.library, "group": network.group,
                "shape": list(network.shape), "exporter": exporter, **found,
            })  # fmt: skip
    options.output.write_text(json.dumps(records, indent=1))
    text = page(records)
    if options.markdown:
        options.markdown.write_text(text)
    else:
        print(text)


def read(path: Path) -> dict[str, Any]:
    """What a step has kept, or nothing."""
    return json.loads(path.read_text()) if path.exists() else {}


def page(records: list[dict[str, Any]]) -> str:
    """The whole page."""
    measured = [record for record in records if record["result"]]
    parts = [INTRODUCTION, summary(records, measured)]
    titles = {"survey": "The 42 of the survey", "timm": "Twenty more of timm",
              "hybrid": "Convolutions with attention or mixing, of timm",
              "keras": "keras.applications"}  # fmt: skip
    for group, title in titles.items():
        rows = [row for row in measured if row["group"] == group]
        full = [row for row in rows if "refine" in row["result"].get("errors", {})]
        if not full:
            continue
        parts += [f"## {title}\n", error_table(full, rows)]
        parts += [f"The recipe `fast`, {title.lower()}:\n", fast_table(full)]
    parts.append(failures(records))
    return "\n".join(part for part in parts if part)


def summary(records: list[dict[str, Any]], measured: list[dict[str, Any]]) -> str:
    """How many convert, and how many keep within the limits."""
    status = [record["result"]["status"] for record in measured]
    exported = [record for record in records if record["export"].get("status") == "ok"]
    names = {record["name"] for record in measured}
    lines = [
        "## Summary\n",
        f"{len(names)} architectures of {len({r['name'] for r in records})}, "
        f"{len(measured)} graphs measured of {len(exported)} exported: "
        f"{status.count('ok')} converted ({100 * status.count('ok') / max(1, len(status)):.1f} %), "
        f"{status.count('refused')} refused, {status.count('error')} errors.\n",
        *only_converted(records),
        "| run | T | networks | up to 20 spiking layers: median, largest (limit) "
        "| deeper: median, largest (limit) | above the limit |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    full = [r for r in measured if "refine" in r["result"].get("errors", {})]
    for kind, words in (("errors", "error"), ("centred", "error over deviation")):
        for (run, t), limits in LIMITS.items():
            cells, missed = [], []
            for deep, limit in zip((False, True), limits, strict=True):
                found = {
                    r["name"]: r["result"][kind][run][t]
                    for r in full
                    if (r["result"]["spiking_layers"] > DEEP) == deep
                }
                missed += [name for name, error in found.items() if error > limit]
                values = list(found.values()) or [0.0]
                cells.append(f"{median(values):.4f}, {max(values):.4f} ({limit})")
            lines.append(f"| {run}, {words} | {t} | {len(full)} | {cells[0]} | {cells[1]} "
                         f"| {', '.join(missed) or 'none'} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def only_converted(records: list[dict[str, Any]]) -> list[str]:
    """A line on the graphs that were converted without measuring them, if there are any."""
    rest = [r for r in records if r["conversion"] and not r["result"]]
    if not rest:
        return []
    status = [record["conversion"]["status"] for record in rest]
    names = {r["name"] for r in rest} - {r["name"] for r in records if r["result"]}
    bad = [
        f"{r['name']} ({r['exporter']}): {r['conversion']['reason'].splitlines()[0]}"
        for r in rest
        if r["conversion"]["status"] != "ok"
    ]
    return [
        f"Another {len(rest)} exported graphs, {len(names)} more architectures among them, "
        f"were only converted (`refine`, 8 images): {status.count('ok')} converted, "
        f"{status.count('refused')} refused, {status.count('error')} errors"
        f"{': ' + '; '.join(bad) if bad else ''}.\n",
    ]


def error_table(full: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """One row per architecture."""
    lines = [
        "| architecture | spiking, pooling, graded layers | work | sensitivity | "
        + " | ".join(f"{run} T={t}" for run, t in LIMITS)
        + " | other exporter |",
        "| --- | --- | --- | --- |" + " --- |" * (len(LIMITS) + 1),
    ]
    for record in full:
        result = record["result"]
        layers = {role: sum(ops.values()) for role, ops in result["layers"].items()}
        work = result["work"]
        shares = [
            100 * work[of][kind] / max(1, sum(work[of].values()))
            for of, kind in (("macs", "spiking"), ("elements", "graded"))
        ]
        cells = [
            f"{record['name']} ({record['exporter']})",
            ", ".join(str(layers.get(role, 0)) for role in ("neuron", "pool", "graded")),
            f"{shares[0]:.0f} %, {shares[1]:.1f} %",
            f"{result.get('sensitivity', float('nan')):.0e}",
            *(cell(result, run, t) for run, t in LIMITS),
            other(record, rows),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(result: dict[str, Any], run: str, t: str) -> str:
    """Both errors, bold above the limit."""
    limit = LIMITS[run, t][result["spiking_layers"] > DEEP]
    values = (result["errors"][run][t], result["centred"][run][t])
    return " / ".join(f"**{v:.4f}**" if v > limit else f"{v:.4f}" for v in values)


def other(record: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """What the other exporter's graph gives."""
    for row in rows:
        if row["name"] == record["name"] and row is not record:
            error = row["result"].get("errors", {}).get("rate", {}).get("64")
            found = row["result"]["status"] if error is None else f"{error:.4f}"
            return f"{row['exporter']}: {found}"
    return ""


def fast_table(full: list[dict[str, Any]]) -> str:
    """The errors of the default recipe."""
    steps = list(full[0]["result"]["errors"]["fast"])
    lines = [
        "| architecture | " + " | ".join(f"T={t}" for t in steps) + " |",
        "| --- |" + " --- |" * len(steps),
    ]
    for record in full:
        errors, centred = (record["result"][kind]["fast"] for kind in ("errors", "centred"))
        cells = [f"{errors[t]:.4f} / {centred[t]:.4f}" for t in steps]
        lines.append(f"| {record['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def failures(records: list[dict[str, Any]]) -> str:
    """What was refused or failed, what could not be exported, and what was not measured."""
    lines = []
    for record in records:
        title = f"{record['name']} ({record['exporter']})"
        export, result = record["export"], record["result"]
        if export.get("status") == "export failed":
            reason = export["reason"].split(" Please ")[0][:160]
            lines.append(f"- {title}: the exporter failed: {reason}")
        elif export and not result:
            lines.append(f"- {title}: exported, not measured")
        elif not export:
            lines.append(f"- {title}: not exported")
        elif result["status"] != "ok":
            reason = " ".join(result["reason"].split())[:300]
            lines.append(f"- {title}: {result['status']}: {reason}")
    return "\n".join(["## Not converted or not measured\n", *lines]) + "\n" if lines else ""
