"""docs/paper.md and its pictures, from what `paper` has measured."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parents[1] / "docs"
PUBLISHED_ENERGY = 0.693
COLOURS = ("#8a5a00", "#59636e", "#0a58ca", "#b3261e")


def picture(name: str, title: str, panels: Sequence[tuple[str, dict[str, Any]]],
            across: tuple[str, Sequence[float]], up: str, *, log: bool = True) -> str:  # fmt: skip
    """Draw one panel per network, a line per curve; returns the Markdown that shows it."""
    label, xs = across
    figure = Figure(figsize=(4.0 * len(panels), 3.0), layout="constrained")
    for axes, (case, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for colour, (curve, ys) in zip(COLOURS, curves.items(), strict=False):
            axes.plot(xs, ys, label=curve, color=colour, linewidth=1.6)
        if log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_title(case, fontsize=10)
        axes.set_xlabel(label)
        axes.set_ylabel(up)
        axes.grid(visible=True, color="#d1d9e0", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    path = DOCS / "pictures" / f"{name}.svg"
    with rc_context({"svg.hashsalt": name}):  # the same picture, byte for byte
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return f"![{title}](pictures/{name}.svg)\n"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def by_step(results: list[dict[str, Any]], shown: Sequence[int], key: str) -> str:
    """A table of a figure by network, burst limit and step."""
    rows = [
        [found["case"], f"γ = {burst}", *(f"{value:.2f}" for value in figures[key])]
        for found in results
        for burst, figures in found["bursts"].items()
    ]
    if key.startswith("wrong"):
        rows += [
            [found["case"], "γ = 5, may take back", *(f"{v:.2f}" for v in found["signed"][key])]
            for found in results
        ]
    return table(["network", "neurons", *(f"T={t}" for t in shown)], rows)


def write_page(results: list[dict[str, Any]], shown: Sequence[int], edges: list[float]) -> None:
    """Write the page and its pictures."""
    last = len(results[0]["accuracy"]["1"])
    centres = [(a + b) / 2 for a, b in pairwise(edges[1:-1])]
    images = ", ".join(f"{found['case']} {found['images']} (ANN {found['ann']:.2f} %)"
                       for found in results)  # fmt: skip

    def curves(key: str) -> list[tuple[str, dict[str, Any]]]:
        return [
            (found["case"], {f"γ = {burst}": figures[key] for burst, figures in
                             found["bursts"].items()})
            for found in results
        ]  # fmt: skip

    pooled = [found for found in results if found["poolings"]]
    charge = [
        (case, {name: values[1:-1] for name, values in histograms.items()})
        for case, histograms in curves("charge")
    ]
    accuracy = [
        (found["case"], {f"γ = {burst}": ys for burst, ys in found["accuracy"].items()})
        for found in results
    ]
    energy = [
        [found["case"], f"{row['within']:g}", row["burst"], row["t"] or f"> {last}",
         f"{row['energy']:.2f}" if row["t"] else "",
         f"{row['energy'] / base['energy']:.2f}" if row["t"] and base["t"] else ""]
        for found in results
        for row in found["energy"]
        for base in found["energy"]
        if base["burst"] == "1" and base["within"] == row["within"]
    ]  # fmt: skip
    pictures = {
        "charge": picture(
            "paper_charge", "Histogram of the membrane, active neurons", charge,
            (f"V / θ after step {shown[-1]}", centres), "share of active neurons", log=False,
        ),
        "accuracy": picture(
            "paper_accuracy", "Accuracy against timesteps for four burst limits", accuracy,
            ("T", range(1, last + 1)), "accuracy %",
        ),
        "pooling": picture(
            "paper_pooling", "Accuracy against timesteps for four rules of pooling",
            [(found["case"], found["poolings"]) for found in pooled],
            ("T", range(1, shown[-1] + 1)), "accuracy %",
        ),
    }  # fmt: skip
    rules = table(
        ["network", "rule", *(f"T={t}" for t in shown)],
        [
            [found["case"], rule, *(f"{curve[t - 1]:.2f}" for t in shown)]
            for found in pooled
            for rule, curve in found["poolings"].items()
        ],
    )
    costs = table(
        ["network", "within", "γ", "T", "energy / ANN", "energy / typical method"], energy
    )
    page = f"""# The paper, reproduced

What Li & Zeng, "Efficient and Accurate Conversion of Spiking Neural Network with Burst Spikes"
(IJCAI 2022), say about conversion errors, measured on our networks by `benchmarks/paper.py`.
Charges, spikes and the rules of pooling come from the file's own states in a loop over plain
onnxruntime. Recipe `paper` with the burst limit varied; γ = 1 is the typical method. Thresholds
from 200 calibration images. First test images: {images}; neurons are looked into on the first
{results[0]["looked_into"]}.

## Charge that cannot leave

A neuron that may send γ spikes a step keeps what exceeds it. In percent of all charge received,
above the threshold after step T:

{by_step(results, shown, "kept")}
{pictures["charge"]}
## Accuracy over time

{pictures["accuracy"]}
## Spikes of neurons that should be silent

Percent of the neurons with an ANN activation of zero that have sent a spike by step T. The paper's
neuron cannot take a spike back that came too early; "may take back" is the same network with the
signed neurons of recipe `fast`.

{by_step(results, shown, "wrong")}
Their share of all spikes, in percent:

{by_step(results, shown, "wrong_spikes")}
## Pooling

Four rules for MaxPool, else recipe `paper` (γ = 5), on the first {2 * results[0]["looked_into"]}
images. *Spike max*: the largest spike of a step. *Gate*: the spike of the neuron of the window that
has sent most so far. *Max before the neurons*: the largest current of a step. Accuracy in percent:

{rules}
{pictures["pooling"]}
## Steps and energy

The first step at most so many points below the ANN's accuracy, the energy by then in units of the
ANN's, and against the typical method. The paper has {PUBLISHED_ENERGY} for VGG-16 on CIFAR-100.

{costs}"""
    (DOCS / "paper.md").write_text(page)
