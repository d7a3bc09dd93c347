"""Every command on a network with two inputs, against plain onnxruntime."""

import json

import networks
import numpy as np
import onnx
import onnxruntime
import pytest

import onnx2snn
import onnx2snn_runtime
from onnx2snn.cli import main
from onnx2snn_runtime.cli import main as run_main

COUNT = 48
TIMESTEPS = [1, 3]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A siamese network, converted by the command line with a preprocessing for each input."""
    path = tmp_path_factory.mktemp("inputs")
    onnx.save(networks.siamese(), path / "net.onnx")
    np.savez(path / "data.npz", **networks.pairs(COUNT))
    command = [str(path / "net.onnx"), "--calibration", str(path / "data.npz"), "-q"]
    assert main([*command, "--preprocess", "left:imagenet", "--preprocess", "right:unit"]) == 0
    return path


@pytest.fixture(scope="module")
def feeds():
    """What the two preprocessings make of the bytes, worked out here."""
    data = networks.pairs(COUNT)
    mean, std = (np.array(x).reshape(1, 3, 1, 1) for x in (MEAN, STD))
    left = (data["left"] / 255 - mean) / std
    right = data["right"].transpose(0, 3, 1, 2) / 255
    return {"left": left.astype(np.float32), "right": right.astype(np.float32)}


@pytest.fixture(scope="module")
def answers(folder, feeds):
    """Logits of the ANN, and of the SNN step by step, as README tells to run the file."""
    (ann,) = onnxruntime.InferenceSession(folder / "net.onnx").run(None, feeds)
    session = onnxruntime.InferenceSession(folder / "net.snn.onnx")
    outputs = [value.name for value in session.get_outputs()]
    given = dict(feeds)
    for value in session.get_inputs():
        if value.name + ".next" in outputs:
            shape = [size if isinstance(size, int) else COUNT for size in value.shape]
            given[value.name] = np.zeros(shape, "int64" if "int64" in value.type else "float32")
    steps = []
    for _ in range(max(TIMESTEPS)):
        results = dict(zip(outputs, session.run(outputs, given), strict=True))
        states = {name: results[name + ".next"] for name in given if name + ".next" in results}
        given.update(states)
        steps.append(results["logits"])
    return ann, steps


def command(folder, verb, *options, data="data.npz"):
    return [verb, str(folder / "net.snn.onnx"), str(folder / data), *options]


def document(capsys, arguments, program=main):
    capsys.readouterr()
    assert program(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_eval_measures_what_onnxruntime_answers(folder, answers, capsys):
    ann, steps = answers
    labels = networks.pairs(COUNT)["labels"]
    options = ["--timesteps", "1,3", "--against", str(folder / "net.onnx"), "--typical", "--json",
               "--early-exit"]  # fmt: skip
    found = document(capsys, command(folder, "eval", *options))
    assert found["samples"] == COUNT
    assert len({*ann.argmax(axis=1)}) > 1, "a network that tells the pairs apart"
    right = ann.argmax(axis=1) == labels
    assert found["ann"]["accuracy"] == pytest.approx(100 * right.mean())
    for row, t in zip(found["steps"], TIMESTEPS, strict=True):
        classes = steps[t - 1].argmax(axis=1)
        assert row["accuracy"] == pytest.approx(100 * (classes == labels).mean())
        assert row["agreement"] == pytest.approx(100 * (classes == ann.argmax(axis=1)).mean())
        error = np.linalg.norm(steps[t - 1] - ann) / np.linalg.norm(ann)
        assert row["output_error"] == pytest.approx(error, rel=1e-3)
    assert found["typical"]["accuracy"] is not None
    assert sum(found["early_exit"]["distribution"].values()) == COUNT


def test_a_report_shows_a_picture_among_the_inputs(folder, capsys):
    pytest.importorskip("matplotlib", reason="needs the extra 'report'")
    pytest.importorskip("jinja2", reason="needs the extra 'report'")
    page = folder / "page.html"
    found = document(capsys, command(folder, "eval", "--json", "--report", str(page)))
    assert found["report"]["followed"]["label"] == networks.pairs(COUNT)["labels"][0]
    assert found["report"]["followed"]["png"]
    assert "maxpool_11" in page.read_text(encoding="utf-8")


def test_run_is_the_same_with_both_programs(folder, answers, capsys):
    expected = answers[1][2].argmax(axis=1).tolist()
    options = ["-T", "3", "--json"]
    assert document(capsys, command(folder, "run", *options))["classes"] == expected
    alone = command(folder, "run", *options)[1:]
    assert document(capsys, alone, run_main)["classes"] == expected


def test_compare_takes_both_inputs(folder, capsys):
    arguments = ["compare", str(folder / "net.onnx"), *command(folder, "", "--json")[1:]]
    found = document(capsys, arguments)
    assert found["samples"] == COUNT
    assert found["first_departing"] is None
    assert {layer["op"] for layer in found["layers"]} == {"Relu", "MaxPool", "Abs"}


def test_inspect_shows_both_inputs(folder, capsys):
    found = document(capsys, ["inspect", str(folder / "net.snn.onnx"), "--plan", "--json"])
    assert found["inputs"] == {"left": ["N", 3, 8, 8], "right": ["N", 3, 8, 8]}
    assert found["plan"]["parts"][0]["operators"] == ["Conv", "Conv"]


def test_workers_and_a_journal_measure_the_same(folder):
    network, data = folder / "net.snn.onnx", folder / "data.npz"
    options = {"timesteps": TIMESTEPS, "batch_size": 8}
    expected = onnx2snn.evaluate(network, data, **options)
    assert onnx2snn.evaluate(network, data, workers=2, **options) == expected

    def stop(done, total):
        if done == 24:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        onnx2snn.evaluate(network, data, resume=network, progress=stop, **options)
    seen = []
    found = onnx2snn.evaluate(network, data, resume=network, **options,
                              progress=lambda done, total: seen.append(done))  # fmt: skip
    assert found == expected
    assert seen == [24, 32, 40, 48]
    assert not list(folder.glob("*.journal"))


def test_python_takes_a_mapping(folder, feeds, answers):
    network = onnx2snn_runtime.load(folder / "net.snn.onnx")
    data = {**feeds, "labels": networks.pairs(COUNT)["labels"]}
    from_files = onnx2snn.evaluate(network, folder / "data.npz", timesteps=TIMESTEPS)
    assert onnx2snn.evaluate(network, data, timesteps=TIMESTEPS) == from_files
    *_, last = network.stream(feeds, timesteps=3)
    np.testing.assert_allclose(last["logits"], answers[1][2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("verb", ["run", "eval"])
def test_bad_data_is_refused_with_all_names(folder, verb, capsys):
    data = networks.pairs(COUNT)
    np.savez(folder / "bad.npz", lefft=data["left"], right=data["right"], label=data["labels"])
    assert main(command(folder, verb, data="bad.npz")) == 6
    told = capsys.readouterr().err
    assert all(name in told for name in ("'left'", "'lefft'", "'label'"))
    assert "Traceback" not in told


def test_preprocessing_of_another_input_is_refused(folder, capsys):
    for arguments in (command(folder, "eval"), [str(folder / "net.onnx"), "--dry-run"]):
        assert main([*arguments, "--preprocess", "up:unit"]) == 2
        assert "'up'" in capsys.readouterr().err


def test_whole_numbers_and_the_loop_take_two_inputs(tmp_path, capsys):
    onnx.save(networks.siamese(3, distance=False), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **networks.pairs(COUNT))
    arguments = [str(tmp_path / "net.onnx"), "--calibration", str(tmp_path / "data.npz"), "-q"]
    assert main([*arguments, "--precision", "int8", "--preprocess", "unit"]) == 0
    found = document(capsys, command(tmp_path, "eval", "--timesteps", "1,8", "--json"))
    assert found["steps"][-1]["agreement"] > 90
    assert main(["export", str(tmp_path / "net.snn.onnx"), "--unroll", "loop"]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "net.loop.onnx")
    data = networks.pairs(COUNT)
    given = {
        "left": data["left"].astype(np.float32) / np.float32(255),
        "right": data["right"].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255),
        "timesteps": np.array(8, np.int64),
    }
    (logits,) = session.run(None, given)
    ran = document(capsys, command(tmp_path, "run", "-T", "8", "--json"))
    assert ran["classes"] == logits.argmax(axis=1).tolist()
