"""The page of a report: complete, self-contained, safe against its own contents."""

import contextlib
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import networks
import numpy as np
import onnx
import pytest

from onnx2snn import compare, convert, evaluate
from onnx2snn_runtime.errors import DataError, UsageError

pytest.importorskip("matplotlib", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")

from onnx2snn.commands.report import write_page
from onnx2snn.report.collect import collect, rate_histogram
from onnx2snn.report.layer_figures import comparison_figure, spread
from onnx2snn.report.page import render
from onnx2snn.report.result_figures import Point, best
from onnx2snn.report.results import check_results, read_results
from onnx2snn.report.verdict import verdict

NASTY = '</script><script>alert("$x^2$")</script><img src=x onerror=alert(1)>&\''
VOID = {"meta", "link", "img", "br", "use", "path"}


class Page(HTMLParser):
    """Collects what a page holds, and checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.handlers, self.stack, self.text = (
            [],
            [],
            [],
            [],
            [],
            [],
        )
        self.feed(text)
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append((tag, name))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.stack and self.stack[-1] == tag, (tag, self.stack[-3:])
        self.stack.pop()

    def handle_data(self, data):
        self.text.append(data)


def nasty_network():
    """A network whose nodes carry markup in their names."""
    model = networks.small_cnn(seed=3)
    for index, node in enumerate(model.graph.node):
        node.name = f"{index}{NASTY}"
    return model


@pytest.fixture(scope="module")
def results():
    network = convert(nasty_network(), calibration=networks.images(48, seed=4)).network()
    data = {"images": networks.images(12), "labels": np.arange(12) % 4}
    document = evaluate(network, data, timesteps=[1, 2, 4])
    document["report"] = collect(network, data, timesteps=4, image=3, command=NASTY)
    return json.loads(json.dumps(document, allow_nan=False))  # as it comes from a file


def test_hostile_names_stay_text(results):
    text = render(check_results(results), NASTY)
    page = Page(text)
    assert page.tags.count("script") == 2  # the data and our own
    assert "onerror" in "".join(page.text) and not page.handlers
    assert NASTY in "".join(page.text)
    assert not re.search(r"<img src=x", text)


def leaves(value, path=()):
    """The way to every value of a document that holds no others."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, inner in items for leaf in leaves(inner, (*path, key))]
    return [path]


def replaced(document, path, value):
    """The document with another value in one place."""
    if not path:
        return value
    changed = document.copy()
    changed[path[0]] = replaced(document[path[0]], path[1:], value)
    return changed


def is_harmless(text):
    page = Page(text)
    return page.tags.count("script") == 2 and not page.handlers and "<img src=x" not in text


@pytest.fixture(scope="module")
def short(results):
    """The same with one layer and one file: a page takes a second to draw."""
    file = {"SNN": {"name": "a.onnx", "sha256": "0"}}
    document = replaced(results, ("report", "provenance", "files"), file)
    document = replaced(document, ("report", "layers"), results["report"]["layers"][:1])
    return {**document, "steps": document["steps"][:1]}


def test_hostile_results_stay_text(short):
    """Markup in every place of stored results where text may stand."""
    hostile, changed = short, 0
    for path in leaves(short):
        try:
            hostile = check_results(replaced(hostile, path, NASTY))
            changed += 1
        except DataError:
            continue
    assert changed > 20
    assert is_harmless(render(hostile, NASTY))


@pytest.mark.parametrize("value", [NASTY, None, [NASTY], {NASTY: NASTY}, {NASTY: {}}])
def test_results_of_any_form_are_refused_or_shown(short, tmp_path, value):
    """Whatever stands where an object is expected."""
    for place in (
        (), ("recipe",), ("report",), ("report", "conversion", "work"),
        ("report", "conversion", "calibration"), ("report", "provenance", "versions"),
        ("report", "provenance", "files"), ("report", "provenance", "files", "SNN"),
    ):  # fmt: skip
        (tmp_path / "r.json").write_text(json.dumps(replaced(short, place, value)))
        with contextlib.suppress(DataError):
            write_page(read_results(tmp_path / "r.json"), tmp_path / "r.html", quiet=True)
            assert is_harmless((tmp_path / "r.html").read_text()), place


def test_files_with_markup_in_their_names(tmp_path):
    """Names of models, data and classes come from strangers as well."""
    name = "<script>alert(1)<!-- &quot; '\"><img src=x onerror=alert(1)>"
    onnx.save(networks.small_cnn(), tmp_path / f"{name}.onnx")
    np.savez(tmp_path / f"{name}.npz", images=networks.images(8), labels=np.arange(8) % 4,
             classes=np.array([f"{NASTY}{i}" for i in range(4)]))  # fmt: skip
    for arguments in (
        [f"./{name}.onnx", "--calibration", f"{name}.npz", "-o", f"{name}.snn.onnx"],
        ["eval", f"{name}.snn.onnx", f"{name}.npz", "--timesteps", "1", "--report", "a.html"],
        ["compare", f"{name}.onnx", f"{name}.snn.onnx", f"{name}.npz", "--plot", "a.svg"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "onnx2snn", *arguments], cwd=tmp_path, timeout=120,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    text = (tmp_path / "a.html").read_text()
    assert is_harmless(text)
    assert f"{name}.npz" in "".join(Page(text).text)
    tags = {
        element.tag.rpartition("}")[2] for element in ElementTree.parse(tmp_path / "a.svg").iter()
    }
    assert "script" not in tags and "img" not in tags


def test_a_picture_of_layers_with_markup_in_their_names():
    layer = {"name": NASTY, "error": 0.1, "early_error": 0.2, "correlation": 0.9}
    text = comparison_figure({"layers": [layer], "first_departing": NASTY, "samples": 1,
                              "timesteps": 2})  # fmt: skip
    root = ElementTree.fromstring(text.partition("?>")[2].strip())
    assert {element.tag.rpartition("}")[2] for element in root.iter()}.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)


def test_it_needs_nothing_else(results):
    text = render(results, "net")
    page = Page(text)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    targets = {link[1:] for link in page.links if link.startswith("#")}
    targets |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert targets <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "default-src 'none'" in text
    assert re.findall(r"https?://[^\s\"']+", re.sub(r'xmlns(:\w+)?="[^"]+"', "", text)) == []


def test_everything_is_on_it(results):
    page = Page(render(results, "net"))
    text = "".join(page.text)
    layers = results["report"]["layers"]
    assert page.tags.count("svg") == 3 + 2 + len(layers)
    assert "Filled marks are those that no other beats" in text
    assert json.loads(
        page.text[page.text.index(next(t for t in page.text if t.startswith('{"samples')))]
    )
    for words in ("quantis", "zeros skipped", "Folded", "Graded", "command line", "sha256"):
        assert words in text, words
    followed = results["report"]["followed"]
    assert followed["index"] == 3 and followed["label"] == 3
    assert len(followed["evidence"]["steps"]) == 4


def test_the_same_results_give_the_same_page(results):
    assert render(results, "net") == render(results, "net")


def test_results_without_layers_still_give_a_page(results):
    page = Page(render(check_results({k: v for k, v in results.items() if k != "report"}), "net"))
    assert "These results hold no layers" in "".join(page.text)


def test_early_exit_is_told(results):
    early = {"mean_t": 1.25, "loss": 0.7, "last_t": 3, "energy_uj": 8.18}
    told = verdict(check_results({**results, "early_exit": early})).sentences
    assert any("1.25 timesteps and 8.18 µJ" in sentence for sentence in told)
    with pytest.raises(DataError, match=r"early_exit\.mean_t"):
        check_results({**results, "early_exit": {**early, "mean_t": "soon"}})


def test_unlabelled_data_and_outputs_that_are_no_classes(results):
    bare = json.loads(json.dumps(results))
    for row in [*bare["steps"], bare["ann"], bare["quantised_ann"]]:
        row["accuracy"] = None
    assert "answers as the ANN does" in verdict(check_results(bare)).headline
    Page(render(bare, "net"))
    for row in [*bare["steps"], bare["quantised_ann"]]:
        row["agreement"] = None
    bare["report"]["followed"]["evidence"] = None
    assert "away from the ANN" in verdict(check_results(bare)).headline
    assert "no classes" in "".join(Page(render(bare, "net")).text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("steps"), "steps: is missing"),
        (lambda d: d["steps"].clear(), "steps: is empty"),
        (lambda d: d["steps"][1].update(t="4"), "steps[1].t: expected a whole number"),
        (lambda d: d["steps"][0].update(t=0), "t counts from 1"),
        (lambda d: d["steps"][0].update(energy_uj=10**400), "energy_uj: expected a number"),
        (lambda d: d["report"].update(timesteps=2**53), "timesteps: expected a whole number"),
        (lambda d: d["report"]["provenance"].update(files={"a": "b"}), "files.a: expected an obj"),
        (lambda d: d["report"]["conversion"]["work"].update(macs=[1]), "work.macs: expected an ob"),
        (lambda d: d.update(recipe="fast"), "recipe: expected an object"),
        (lambda d: d["recipe"].update(scale=eval("[" * 50 + "]" * 50)), "nested deeper than 32"),
        (lambda d: d["steps"][0].update(accuracy=None), "accuracy: is null in some rows"),
        (lambda d: d["report"]["followed"].update(png='x" onload="'), "expected base64"),
        (lambda d: d["report"]["layers"][0].update(points=[[1.0], []]), "two lists of one length"),
        (lambda d: d["report"]["followed"]["evidence"]["ann"].append(1), "one number per class"),
    ],
)
def test_broken_results_are_refused(results, change, words, tmp_path):
    broken = json.loads(json.dumps(results))
    change(broken)
    (tmp_path / "r.json").write_text(json.dumps(broken))
    with pytest.raises(DataError) as caught:
        read_results(tmp_path / "r.json")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"samples": NaN}', "\x00"])
def test_what_is_no_document_is_refused(text, tmp_path):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError):
        read_results(tmp_path / "r.json")


def test_a_missing_extra_is_named(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="matplotlib") as caught:
        render(results, "net")
    assert "pip install 'onnx2snn[report]'" in str(caught.value)


def test_there_is_no_such_image():
    network = convert(networks.small_cnn(), calibration=networks.images(8)).network()
    with pytest.raises(UsageError, match=r"in 0\.\.6, got 7"):
        collect(network, networks.images(7), timesteps=2, image=7)


def test_rate_histogram_counts_every_neuron():
    rates = np.array([0.0, 0.0, 0.5, 2.0])
    found = rate_histogram(rates)
    assert sum(found["counts"]) == len(rates) and found["counts"][0] == 2
    assert found["edges"][-1] == 2.0
    assert rate_histogram(np.zeros(0)) is None


def test_best_points_are_beaten_by_none():
    points = [Point(str(i), e, a, "snn") for i, (e, a) in
              enumerate([(1, 90), (2, 95), (3, 94), (4, 95), (5, 96), (1, 90)])]  # fmt: skip
    assert [p.label for p in best(points)] == ["0", "1", "4", "5"]


def test_labels_are_spread_in_order():
    heights = spread([0.0, 5.0, 0.1, 0.05], 1.0)
    ordered = [heights[i] for i in (0, 3, 2, 1)]
    assert all(b - a >= 1.0 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert heights[1] == 5.0 and abs(heights[3] - 0.05) < 1e-9


def test_command_line(tmp_path):
    onnx.save(nasty_network(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", images=networks.images(16), labels=np.arange(16) % 4)

    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "onnx2snn", *map(str, arguments)],
            capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        )  # fmt: skip

    assert call("net.onnx", "--calibration", "data.npz").returncode == 0
    done = call("eval", "net.snn.onnx", "data.npz", "--timesteps", "1,3", "--report", "a.html",
                "--against", "net.onnx", "--limit", 5, "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["report"]["images"] == document["samples"] == 5
    assert set(document["report"]["provenance"]["files"]) == {"SNN", "ANN", "data"}
    (tmp_path / "r.json").write_text(done.stdout)
    assert call("report", "r.json", "-o", "b.html").returncode == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    done = call("eval", "net.snn.onnx", "data.npz", "--report", "no/such/folder.html")
    assert done.returncode == 5 and "wrote" not in done.stderr


@pytest.mark.parametrize("pool", [False, True])
def test_layers_in_whole_numbers_are_those_of_the_comparison(pool):
    ann, images = networks.small_cnn(pool=pool), networks.images(32)
    network = convert(ann, calibration=images, precision="int8").network()
    found = collect(network, images, timesteps=8)
    expected = compare(ann, network, images, timesteps=8)["layers"]
    for layer, other in zip(found["layers"], expected, strict=True):
        assert layer["error"] == pytest.approx(other["error"], abs=0.05), layer["name"]
        assert layer["correlation"] > 0.98
    assert found["first_departing"] is None
