"""Data and preprocessing of networks with several inputs."""

import networks
import numpy as np
import pytest
from PIL import Image

from onnx2snn_runtime.data.input_preprocessing import (
    by_input,
    from_document,
    parse_all,
    specs,
    to_document,
    told,
)
from onnx2snn_runtime.data.inputs import open_inputs
from onnx2snn_runtime.data.preprocessing import PRESETS, Preprocessing
from onnx2snn_runtime.errors import DataError, ModelError, UsageError

NAMES = ["left", "right"]
SHAPES = {"left": ("N", 3, 8, 8), "right": ("N", 3, 8, 8)}
DATA = networks.pairs(7)
LEFT, RIGHT, LABELS = DATA["left"], DATA["right"].transpose(0, 3, 1, 2), DATA["labels"]


def whole(inputs, preprocessing=PRESETS["unit"], limit=None):
    """All pieces in one: images by input name, and labels."""
    pieces = list(inputs.pieces(3, SHAPES, preprocessing, limit))
    assert [piece.first for piece in pieces] == list(range(0, 3 * len(pieces), 3))
    feeds = [piece.feeds() for piece in pieces]
    known = None if inputs.labels is None else np.concatenate([p.labels for p in pieces])
    return {name: np.concatenate([part[name] for part in feeds]) for name in NAMES}, known


def write_pictures(folder, images, name=lambda index: f"{index}.png"):
    for index, image in enumerate(images):
        path = folder / name(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)


def sources(path):
    """The same data in every form."""
    np.savez(path / "data.npz", **DATA)
    np.savez_compressed(path / "y.npz", left=LEFT, right=RIGHT, y=LABELS, classes=list("abcd"))
    for form in ("arrays", "mixed"):
        (path / form).mkdir()
        np.save(path / form / "labels.npy", LABELS)
        np.save(path / form / "right.npy", RIGHT)
        (path / form / "readme.txt").write_text("no data")
    np.savez(path / "arrays" / "left.npz", images=LEFT)
    write_pictures(path / "mixed" / "left", LEFT)
    paths = {"left": path / "mixed" / "left", "right": path / "arrays" / "right.npy"}
    yield from (DATA, path / "data.npz", str(path / "y.npz"), path / "arrays", path / "mixed")
    yield {**paths, "labels": LABELS.tolist()}


def test_all_forms_are_the_same_data(tmp_path):
    for source in sources(tmp_path):
        inputs = open_inputs(source, NAMES)
        assert inputs.count == 7
        assert open_inputs(inputs, NAMES) is inputs
        feeds, labels = whole(inputs)
        np.testing.assert_array_equal(feeds["left"], LEFT / np.float32(255))
        np.testing.assert_array_equal(feeds["right"], RIGHT / np.float32(255))
        np.testing.assert_array_equal(labels, LABELS)
        few, first = whole(inputs, limit=4)
        np.testing.assert_array_equal(few["right"], feeds["right"][:4])
        np.testing.assert_array_equal(first, LABELS[:4])


def test_one_input_may_have_its_own_name(tmp_path):
    """Also where it is a name of labels."""
    for name in ("image", "y"):
        np.savez(tmp_path / "data.npz", **{name: LEFT, "labels": LABELS})
        inputs = open_inputs(tmp_path / "data.npz", [name])
        assert list(inputs.datasets) == [name]
        np.testing.assert_array_equal(inputs.labels, LABELS)


def test_an_input_called_labels_is_an_input():
    floats = np.arange(14, dtype=np.float32).reshape(7, 2)
    inputs = open_inputs({"left": LEFT, "labels": floats}, ["left", "labels"])
    assert inputs.labels is None
    inputs = open_inputs({"left": LEFT, "labels": floats, "y": LABELS}, ["left", "labels"])
    np.testing.assert_array_equal(inputs.labels, LABELS)


def test_everything_wrong_is_said_at_once(tmp_path):
    np.savez(tmp_path / "data.npz", lefft=LEFT, right=RIGHT.astype(int), label=LABELS, y=LABELS)
    with pytest.raises(DataError) as caught:
        open_inputs(tmp_path / "data.npz", NAMES)
    found = {finding.tensor: finding.why for finding in caught.value.findings}
    assert set(found) == {"left", "lefft", "right", "label"}
    assert "no data" in found["left"]
    assert "no input has this name" in found["lefft"]
    assert "int64" in found["right"]
    assert "under the name of each input" in caught.value.advice


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({**DATA, "left": LEFT[:5]}, "differ in their number of images: 'left' 5, 'right' 7"),
        ({**DATA, "labels": LABELS[:3]}, "there are 7 images but 3 labels"),
        ({**DATA, "left": "nowhere.npy"}, "nowhere.npy"),
        ({**DATA, "left": None}, "no data for this input"),
        (LEFT, "several inputs, got ndarray"),
    ],
)
def test_what_does_not_go_together_is_refused(source, text):
    with pytest.raises(DataError, match=text):
        open_inputs(source, NAMES)


def test_a_name_that_is_given_twice_is_refused(tmp_path):
    np.save(tmp_path / "left.npy", LEFT)
    write_pictures(tmp_path / "left", LEFT)
    with pytest.raises(DataError, match=r"both left and left\.npy"):
        open_inputs(tmp_path, NAMES)


def test_shapes_are_said_at_once():
    inputs = open_inputs({"left": LEFT[:, :, 1:], "right": np.ones((7, 3, 8), np.float32)}, NAMES)
    with pytest.raises(DataError, match="does not fit the inputs") as caught:
        whole(inputs)
    assert [finding.tensor for finding in caught.value.findings] == NAMES


def test_folders_of_pictures_tell_classes(tmp_path):
    classes = ["cat", "dog", "cat", "cat", "dog", "dog", "cat"]
    for side, images in (("left", LEFT), ("right", RIGHT)):
        write_pictures(tmp_path / side, images, lambda index: f"{classes[index]}/{index}.png")
    assert open_inputs(tmp_path, NAMES).labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    (tmp_path / "right" / "cat" / "0.png").rename(tmp_path / "right" / "dog" / "0.png")
    inputs = open_inputs(tmp_path, NAMES)
    assert inputs.labels is None
    assert any("different labels" in note for note in inputs.notes)
    np.save(tmp_path / "labels.npy", LABELS)
    np.testing.assert_array_equal(open_inputs(tmp_path, NAMES).labels, LABELS)


def test_the_hash_is_of_all_content():
    swapped = {"left": RIGHT, "right": LEFT}
    variants = [DATA, {**DATA, "labels": 3 - LABELS}, swapped, {**DATA, "left": LEFT[::-1]}]
    assert len({open_inputs(source, NAMES).sha256() for source in variants}) == len(variants)
    assert open_inputs(dict(DATA), NAMES).sha256() == open_inputs(DATA, NAMES).sha256()


def test_each_input_has_its_own_preprocessing():
    steps = parse_all(["left:scale=2", "right:none,channels=bgr"])
    feeds, _ = whole(open_inputs(DATA, NAMES), steps)
    np.testing.assert_array_equal(feeds["left"], LEFT * np.float32(2))
    np.testing.assert_array_equal(feeds["right"], RIGHT[:, ::-1].astype(np.float32))
    floats = {"left": LEFT, "right": RIGHT.astype(np.float32)}
    feeds, _ = whole(open_inputs(floats, NAMES), {"left": Preprocessing(scale=3.0)})
    np.testing.assert_array_equal(feeds["left"], LEFT * np.float32(3))
    np.testing.assert_array_equal(feeds["right"], floats["right"])


def test_preprocessing_survives_file_and_option():
    unit, double = PRESETS["unit"], Preprocessing(scale=2.0)
    for steps in (None, unit, {"left": unit, "right": double}):
        assert from_document(to_document(steps), NAMES) == steps
    assert by_input(unit, NAMES) == {"left": unit, "right": unit}
    assert by_input(None, NAMES) == {}
    assert parse_all([]) is None
    assert parse_all(["a:0:unit"]) == {"a:0": unit}
    assert told({"left": "unit", "right": double}) == {"left": unit, "right": double}
    written = specs({"left": unit, "right": double})
    assert parse_all([f"{name}:{spec}" for name, spec in written.items()]) == {
        "left": unit,
        "right": double,
    }


@pytest.mark.parametrize("given", [["unit", "none"], ["left:unit", "none"], ["a:unit", "a:none"]])
def test_options_that_contradict_each_other_are_refused(given):
    with pytest.raises(UsageError, match="--preprocess is given"):
        parse_all(given)


def test_preprocessing_of_no_input_is_refused():
    with pytest.raises(UsageError, match=r"'up'.*'left', 'right'"):
        by_input({"up": PRESETS["unit"]}, NAMES)
    for document in ({"inputs": {"up": {}}}, {"inputs": []}, "x"):
        with pytest.raises(ModelError, match="preprocessing"):
            from_document(document, NAMES)
