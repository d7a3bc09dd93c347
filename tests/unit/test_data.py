"""Images and labels from every source, and every way in which they can be wrong."""

import io
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnx2snn_runtime.data.inputs import open_inputs
from onnx2snn_runtime.data.labels import labels_from_names
from onnx2snn_runtime.data.preprocessing import PRESETS, Preprocessing
from onnx2snn_runtime.data.sources import Dataset, open_data
from onnx2snn_runtime.errors import DataError, Onnx2SnnError, UsageError

GENERATOR = np.random.default_rng(0)
FIRST = GENERATOR.integers(0, 256, (7, 3, 8, 10), dtype=np.uint8)  # [N,C,H,W]
LAST = FIRST.transpose(0, 2, 3, 1)
GREY = GENERATOR.integers(0, 256, (7, 8, 10), dtype=np.uint8)
FLOATS = GENERATOR.standard_normal((7, 3, 8, 10)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1, 0, 2, 2])
UNIT = PRESETS["unit"]


def whole(
    dataset: Dataset, shape: Any, preprocessing: Preprocessing | None = UNIT, size: int = 3
) -> np.ndarray:
    """All the batches in one."""
    return np.concatenate([images for images, _ in dataset.batches(size, shape, preprocessing)])


def picture(values: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind)
    return stream.getvalue()


def save_pictures(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(np.full((8, 8, 3), i, np.uint8)))


# Sources


def test_archives_and_arrays_are_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", images=FIRST, labels=LABELS)
    np.savez_compressed(tmp_path / "packed.npz", x=FIRST, y=LABELS.astype(np.uint8))
    np.savez(tmp_path / "fortran.npz", x=np.asfortranarray(FIRST), y=LABELS)
    for source in (
        tmp_path / "plain.npz",
        str(tmp_path / "packed.npz"),
        tmp_path / "fortran.npz",
        (FIRST, LABELS),
        {"images": FIRST, "labels": LABELS},
        {"x": LAST.transpose(0, 3, 1, 2), "y": LABELS[:, None]},
    ):
        dataset = open_data(source)
        assert dataset.count == 7
        assert dataset.labels is not None
        assert dataset.labels.dtype == np.int64
        np.testing.assert_array_equal(dataset.labels, LABELS)
        np.testing.assert_array_equal(whole(dataset, (3, 8, 10)), FIRST / np.float32(255))
        np.testing.assert_array_equal(dataset.as_array(), FIRST)
        assert dataset.notes == []


def test_npy_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FLOATS.astype(">f8"))
    dataset = open_data(tmp_path / "x.npy")
    assert dataset.labels is None
    np.testing.assert_array_equal(whole(dataset, (3, 8, 10)), FLOATS)
    assert next(dataset.batches(2, (3, 8, 10)))[1] is None


def test_batches_and_limit() -> None:
    dataset = open_data((FIRST, LABELS), limit=5)
    assert dataset.count == 5
    sizes, labels = [], []
    for images, part in dataset.batches(2, (3, 8, 10), UNIT):
        assert part is not None
        assert len(images) == len(part)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        sizes.append(len(images))
        labels += part.tolist()
    assert sizes == [2, 2, 1]
    assert labels == LABELS[:5].tolist()
    assert len(dataset.as_array()) == 5
    assert open_data((FIRST, LABELS), limit=50).count == 7
    assert open_data(dataset) is dataset
    for wrong in (0, -1):
        with pytest.raises(UsageError, match="must be positive"):
            open_data(FIRST, limit=wrong)
        with pytest.raises(UsageError, match="batch size must be positive"):
            next(dataset.batches(wrong, (3, 8, 10)))


def test_floats_of_other_precision() -> None:
    for dtype in (np.float16, np.float64):
        images = whole(open_data(FLOATS.astype(dtype)), (3, 8, 10), None)
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images, FLOATS.astype(dtype).astype(np.float32))


def test_one_hot_labels() -> None:
    for dtype in (np.float32, np.int64, bool):
        dataset = open_data((FIRST, np.eye(3, dtype=dtype)[LABELS]))
        np.testing.assert_array_equal(dataset.labels, LABELS)


def test_class_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=FIRST, classes=np.array(["a", "b", "c"]))
    assert open_data(tmp_path / "a.npz").class_names == ("a", "b", "c")


# Layout


@pytest.mark.parametrize(
    ("images", "shape", "expected"),
    [
        (FIRST, (3, 8, 10), FIRST),
        (LAST, (3, 8, 10), FIRST),
        (FIRST, (8, 10, 3), LAST),
        (LAST, (8, 10, 3), LAST),
        (LAST, (3, None, None), FIRST),
        (FIRST, (None, None, 3), LAST),
        (LAST, (None, 8, 10), FIRST),
        (FIRST, None, FIRST),
        (LAST, (3, "height", 0), FIRST),
        (GREY, (1, 8, 10), GREY[:, None]),
        (GREY, (8, 10, 1), GREY[..., None]),
        (GREY[:, None], (8, 10, 1), GREY[..., None]),
        (GREY, (8, 10), GREY),
        (GREY.reshape(7, 80), (80,), GREY.reshape(7, 80)),
    ],
)
def test_bytes_are_turned_to_the_model(images: Any, shape: Any, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(whole(open_data(images), shape), expected / np.float32(255))


def test_told_layout_settles_what_is_ambiguous() -> None:
    cube = GENERATOR.integers(0, 256, (2, 3, 3, 3), dtype=np.uint8)
    with pytest.raises(DataError, match="layout=nchw"):
        whole(open_data(cube), (3, 3, 3))
    for layout in ("nchw", "nhwc"):
        images = whole(open_data(cube), (3, 3, 3), Preprocessing(layout=layout))
        np.testing.assert_array_equal(images, cube / np.float32(255))
    told = Preprocessing(layout="nhwc")
    np.testing.assert_array_equal(
        whole(open_data(FIRST), (None, None, None), told), LAST / np.float32(255)
    )
    told = Preprocessing(layout="nchw")
    np.testing.assert_array_equal(
        whole(open_data(LAST), (None, None, None), told), FIRST / np.float32(255)
    )


def test_channels_follow_the_layout() -> None:
    steps = PRESETS["imagenet"]
    first = whole(open_data(LAST), (3, 8, 10), steps)
    last = whole(open_data(FIRST), (8, 10, 3), steps)
    np.testing.assert_array_equal(first, steps.apply(FIRST))
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)


# What is wrong

SHAPE = (3, 8, 10)
NAN = FLOATS.copy()
NAN[4, 1, 2, 3] = np.nan
NAN[6, 0, 0, :2] = np.inf
SIGNALLING = FLOATS.astype(np.float64)
SIGNALLING.view(np.uint64)[1, 1, 1, :3] = 0x7FF0_0000_0000_0001
WRONG: dict[str, tuple[Any, tuple[int | None, ...], str]] = {
    "no images": (FIRST[:0], SHAPE, "holds no images"),
    "no pixels": (FIRST[:, :, :0], SHAPE, "holds no images"),
    "no batch axis": (FIRST[0, 0, 0], SHAPE, "need a batch axis"),
    "one image": (GREY[:3], (3, 8, 10), "images[None]"),
    "float to be transposed": (
        np.ascontiguousarray(LAST, np.float32) / 255,
        SHAPE,
        "transposed they would fit: images.transpose((0, 3, 1, 2))",
    ),
    "float of another size": (FLOATS, (3, 16, 16), "images are [N,3,8,10], the model expects [N,3"),
    "bytes of another size": (FIRST, (3, 16, 16), "never resized"),
    "grey for colours": (GREY[:, None], SHAPE, "np.repeat(images, 3, axis=1)"),
    "flat": (FIRST.reshape(7, -1), SHAPE, "[N,240]"),
    "too many axes": (FIRST[None], SHAPE, "[N,7,3,8,10]"),
    "int32": (FIRST.astype(np.int32), SHAPE, "images.astype(np.uint8)"),
    "bool": (FIRST > 3, SHAPE, "images.astype(np.float32)"),
    "complex": (FIRST.astype(np.complex64), SHAPE, "complex64, expected uint8"),
    "strings": (np.array([["a", "b"]]), SHAPE, "expected uint8 or float32"),
    "objects": (np.array([[1, "a"]], dtype=object), SHAPE, "np.stack"),
    "not finite": (NAN, SHAPE, "3 values are NaN or infinite, the first at [4, 1, 2, 3]"),
    "beyond float32": (np.full((7, 3, 8, 10), 1e300), SHAPE, "1,680 values"),
    "signalling NaN": (SIGNALLING, SHAPE, "3 values are NaN or infinite"),
    "few labels": ((FIRST, LABELS[:-1]), SHAPE, "7 images but 6 labels"),
    "one label": ((FIRST, np.array(3)), SHAPE, "7 images but one value"),
    "text labels": ((FIRST, LABELS.astype(str)), SHAPE, "one number for each image"),
    "text matrix": ((FIRST, np.full((7, 2), "a")), SHAPE, "one number for each image"),
    "negative label": ((FIRST, LABELS - 1), SHAPE, "label -1 of image 0"),
    "no source": (None, SHAPE, "NoneType: expected a path"),
    "ragged list": ([[1.0], [1.0, 2.0]], SHAPE, "cannot be made an array"),
    "names": ({"frames": FIRST}, SHAPE, "it holds: frames [7, 3, 8, 10]"),
}


@pytest.mark.parametrize(("source", "shape", "phrase"), WRONG.values(), ids=WRONG.keys())
def test_wrong_data_is_explained(source: Any, shape: Any, phrase: str) -> None:
    with pytest.raises(DataError) as caught:
        whole(open_data(source), shape)
    assert phrase in str(caught.value)


OTHER_TASKS = {
    "targets": LABELS + 0.5,
    "not numbers": np.full(7, np.nan),
    "infinite": np.full(7, np.inf),
    "huge": np.full(7, 1e300),
    "several classes": np.ones((7, 3)),
    "classes of pixels": np.zeros((7, 8, 10), int),
}


@pytest.mark.parametrize("labels", OTHER_TASKS.values(), ids=OTHER_TASKS.keys())
def test_labels_of_other_tasks_are_set_aside(labels: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=FIRST, labels=labels)
    for source in ((FIRST, labels), tmp_path / "data.npz"):
        data = open_data(source)
        assert data.labels is None
        assert any("are no class numbers and are not used" in note for note in data.notes)


def test_whole_floats_are_class_numbers() -> None:
    labels = open_data((FIRST, LABELS.astype(np.float32))).labels
    assert labels is not None
    assert labels.dtype == np.int64
    assert np.array_equal(labels, LABELS)


def test_wrong_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("a,b\n1,2\n")
    np.savez(tmp_path / "other.npz", x_train=FIRST, y_train=LABELS)
    (tmp_path / "empty").mkdir()
    for path, phrase in (
        ("gone.npz", "there is no file"),
        ("x.npz", "this is text"),
        ("other.npz", "np.savez"),
        ("empty", "holds no pictures"),
        (".", "it holds other.npz: give that file"),
    ):
        with pytest.raises(DataError) as caught:
            open_data(tmp_path / path)
        assert phrase in str(caught.value)


# Remarks


def test_remarks() -> None:
    dataset = open_data(FIRST)
    whole(dataset, SHAPE, None)
    whole(dataset, SHAPE, None)
    (note,) = dataset.notes
    assert "divided by 255" in note
    (note,) = open_data(FIRST.astype(np.float32)).notes
    assert "look like 0..255" in note
    assert open_data(FLOATS).notes == []
    (note,) = open_data(np.zeros((4, 3, 8, 8), np.float32)).notes
    assert "constant" in note


# Memory


def test_large_archives_are_streamed(tmp_path: Path) -> None:
    images = np.zeros((3000, 3, 32, 32), np.uint8)  # 9.2 MB
    images[:] = GENERATOR.integers(0, 256, (3, 32, 32), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=images)
    np.savez(tmp_path / "b.npz", images=images)
    np.save(tmp_path / "c.npy", images)
    del images
    for name in ("a.npz", "b.npz", "c.npy"):
        dataset = open_data(tmp_path / name)
        tracemalloc.start()
        total = sum(len(part) for part, _ in dataset.batches(50, (3, 32, 32), UNIT))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == 3000
        assert peak < 5_000_000


# Hashes


def test_hashes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=FIRST, labels=LABELS)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    dataset = open_data(tmp_path / "a.npz")
    assert dataset.sha256() == open_data(tmp_path / "b.npz", limit=2).sha256()
    assert len(dataset.sha256()) == 64
    memory = {
        open_data(FIRST).sha256(),
        open_data(FIRST[:6]).sha256(),
        open_data(LAST).sha256(),
        open_data((FIRST, LABELS)).sha256(),
        open_data((FIRST, 2 - LABELS)).sha256(),
    }
    assert len(memory) == 5
    assert open_data((FIRST, LABELS), limit=3).sha256() in memory
    save_pictures(tmp_path / "p", "a.png", "b.png")
    before = open_data(tmp_path / "p").sha256()
    assert before == open_data(tmp_path / "p").sha256()
    (tmp_path / "p" / "b.png").rename(tmp_path / "p" / "c.png")
    assert open_data(tmp_path / "p").sha256() != before


# Pictures


def test_class_subfolders(tmp_path: Path) -> None:
    save_pictures(tmp_path, "dog/1.png", "cat/9.png", "cat/deep/1.PNG", "ape/.hidden.png")
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    dataset = open_data(tmp_path)
    assert dataset.class_names == ("ape", "cat", "dog")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [1, 1, 2]
    missing, order = dataset.notes
    assert missing == "classes without pictures: ape"
    assert order.endswith("ape=0, cat=1, dog=2")
    images = whole(dataset, (3, 8, 8), PRESETS["none"])
    assert images[:, 0, 0, 0].tolist() == [1, 2, 0]
    limited = open_data(tmp_path, limit=2)
    assert limited.count == 2
    assert "first classes" in limited.notes[-1]


def test_numbered_subfolders_are_sorted_as_text(tmp_path: Path) -> None:
    save_pictures(tmp_path, *(f"{number}/a.png" for number in range(11)))
    dataset = open_data(tmp_path)
    assert dataset.class_names == ("0", "1", "10", *"23456789")
    assert "as PyTorch and Keras do" in dataset.notes[0]


def test_numbered_subfolders_with_gaps_are_the_classes(tmp_path: Path) -> None:
    save_pictures(tmp_path, "0/a.png", "2/a.png", "10/a.png")
    dataset = open_data(tmp_path)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 10, 2]
    assert dataset.class_names == tuple(map(str, range(11)))
    assert dataset.notes == [
        "class folders are numbers with gaps: each number is taken for the class"
    ]


def test_subfolders_numbered_from_one_are_classes_from_zero(tmp_path: Path) -> None:
    save_pictures(tmp_path, "1/a.png", "2/a.png", "3/a.png")
    dataset = open_data(tmp_path)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 2]
    assert dataset.notes == ["class folders are numbered from 0: folder 1 is class 0"]


def test_mixed_folder_is_refused(tmp_path: Path) -> None:
    save_pictures(tmp_path, "cat/1.png", "stray.png")
    with pytest.raises(DataError, match="which are the classes"):
        open_data(tmp_path)


@pytest.mark.parametrize(
    ("stems", "labels", "names"),
    [
        (["dog_001", "cat_001", "dog_002"], [1, 0, 1], ("cat", "dog")),
        (["2_000", "0_001", "2_002"], [2, 0, 2], ("0", "1", "2")),
        (["000_2", "001_0", "002_2"], [2, 0, 2], ("0", "1", "2")),
        (["1_0", "1_1", "0_0"], [1, 1, 0], ("0", "1")),
        (["great white-2", "ray-1"], [0, 1], ("great white", "ray")),
        (["3_cat", "0_dog", "3_cat_2"], [3, 0, 3], ("dog", "1", "2", "cat")),
        (["001_cat", "002_dog", "003_cat"], [0, 1, 0], ("cat", "dog")),
        (["IMG_1", "IMG_2"], None, None),
        (["1", "2"], None, None),
        (["1_cat", "2_cat"], None, None),
        (["cat_1", "plain"], None, None),
        (["cat", "dog"], None, None),
        (["1_2", "2_2"], None, None),
        (["999999999_cat", "2_dog"], [0, 1], ("cat", "dog")),
    ],
)
def test_classes_in_file_names(stems: list[str], labels: Any, names: Any) -> None:
    found = labels_from_names(stems)
    if labels is None:
        assert found is None
    else:
        assert found is not None
        assert (found[0].tolist(), found[1]) == (labels, names)


def test_flat_folders(tmp_path: Path) -> None:
    save_pictures(tmp_path / "named", "dog_1.png", "cat_1.png")
    dataset = open_data(tmp_path / "named")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1]
    assert dataset.notes == ["labels from the file names: cat=0, dog=1"]
    save_pictures(tmp_path / "plain", "1.png", "2.png")
    dataset = open_data(tmp_path / "plain")
    assert dataset.labels is None
    assert not dataset.notes
    with pytest.raises(DataError, match="take its batches"):
        dataset.as_array()


def test_one_picture_in_many_modes(tmp_path: Path) -> None:
    grey = GREY[0]
    colour = LAST[0]
    for kind, suffix in (("PNG", "png"), ("BMP", "bmp"), ("PPM", "ppm"), ("TIFF", "tiff")):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(picture(colour, kind))
        images = whole(open_data(path), (3, 8, 10), PRESETS["none"])
        np.testing.assert_array_equal(images[0], FIRST[0])
    path = tmp_path / "grey.png"
    path.write_bytes(picture(grey))
    np.testing.assert_array_equal(
        whole(open_data(path), (8, 10, 1), PRESETS["none"])[0, ..., 0], grey
    )
    colours = whole(open_data(path), (8, 10, 3), PRESETS["none"])[0]
    np.testing.assert_array_equal(colours, np.repeat(grey[..., None], 3, axis=-1))
    path.write_bytes(picture(grey.astype(np.uint16) * 257))
    np.testing.assert_array_equal(whole(open_data(path), (1, 8, 10), PRESETS["none"])[0, 0], grey)
    alpha = np.dstack([colour, np.full((8, 10), 7, np.uint8)])
    path.write_bytes(picture(alpha))
    np.testing.assert_array_equal(whole(open_data(path), None, PRESETS["none"])[0], FIRST[0])


def test_pictures_are_scaled_and_cut(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200  # the centre
    (tmp_path / "a.png").write_bytes(picture(wide))
    images = whole(open_data(tmp_path / "a.png"), (3, 10, 10), PRESETS["none"])
    assert images.shape == (1, 3, 10, 10)
    assert images[..., 2:-2].min() == images[..., 2:-2].max() == 200
    tall = whole(open_data(tmp_path / "a.png"), (3, 30, 12), PRESETS["none"])
    assert tall.shape == (1, 3, 30, 12)
    enlarged = whole(open_data(tmp_path / "a.png"), (3, 40, 40), PRESETS["none"])
    assert enlarged.shape == (1, 3, 40, 40)
    assert whole(open_data(tmp_path / "a.png"), (3, None, None)).shape == (1, 3, 20, 60)
    (tmp_path / "b.png").write_bytes(picture(FIRST[0, 0]))
    with pytest.raises(DataError, match="--input-shape"):
        whole(open_data(tmp_path), (3, None, None))


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (picture(LAST[0])[:60], "not a picture that can be read"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "not a picture that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture that can be read"),
        (b"P6\n20000 20000\n255\n", "decompression bomb"),
        (b"P6\n10000 10000\n255\n", "decompression bomb"),
        (b"", "is empty"),
    ],
)
def test_bad_pictures(tmp_path: Path, content: bytes, phrase: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "b.png").write_bytes(picture(LAST[0]))
    with pytest.raises(DataError) as caught:
        whole(open_data(tmp_path), (3, 8, 10))
    assert phrase in str(caught.value)
    assert "a.png" in str(caught.value)
    assert " at 0x" not in str(caught.value)


def test_pictures_for_odd_models(tmp_path: Path) -> None:
    save_pictures(tmp_path, "a.png")
    for shape, phrase in (((64,), "expects \\[N,64\\]"), ((2, 8, 8), "2 channels")):
        with pytest.raises(DataError, match=phrase):
            whole(open_data(tmp_path), shape)


def packed(*pictures: bytes) -> dict[str, np.ndarray]:
    offsets = np.cumsum([0, *map(len, pictures)])
    return {"jpeg": np.frombuffer(b"".join(pictures), np.uint8), "offsets": offsets}


def test_packed_pictures(tmp_path: Path) -> None:
    arrays = packed(*(picture(image) for image in LAST))
    np.savez(tmp_path / "a.npz", **arrays, labels=LABELS)
    for source in (tmp_path / "a.npz", {**arrays, "labels": LABELS}):
        dataset = open_data(source, limit=5)
        assert dataset.count == 5
        np.testing.assert_array_equal(dataset.labels, LABELS[:5])
        np.testing.assert_array_equal(whole(dataset, SHAPE, PRESETS["none"]), FIRST[:5])
        assert len(dataset.sha256()) == 64


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"offsets": np.array([0, 10**9])}, "offsets must grow"),
        ({"offsets": np.array([5, 3, 9])}, "offsets must grow"),
        ({"offsets": np.array([-5, 3, 9])}, "offsets must grow"),
        ({"offsets": np.array([0.0, 3.0])}, "must be integers"),
        ({"offsets": np.array([0])}, "holds no images"),
        ({"jpeg": np.zeros((2, 2))}, "must be uint8"),
        ({"labels": np.arange(3)}, "1 images but 3 labels"),
    ],
)
def test_wrong_packed_pictures(change: dict[str, np.ndarray], phrase: str) -> None:
    with pytest.raises(DataError) as caught:
        open_data({**packed(picture(LAST[0])), **change})
    assert phrase in str(caught.value)


def test_only_our_errors_from_damaged_pictures() -> None:
    content = picture(LAST[0], "TIFF")
    for _ in range(200):
        broken = bytearray(content)
        for _ in range(3):
            broken[GENERATOR.integers(len(broken))] = GENERATOR.integers(256)
        try:
            whole(open_data(packed(bytes(broken))), SHAPE)
        except Onnx2SnnError as problem:
            assert isinstance(problem, DataError)


# Real data


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("cifar10_original_test.npz", (3, 32, 32), 761),
        ("fashion_calib.npz", (28, 28, 1), 1024),
        ("imagenet_sample_calib.npz", (3, 224, 224), 40),
    ],
)
def test_shared_data(shared: Path, name: str, shape: tuple[int, ...], count: int) -> None:
    dataset = open_data(shared / "data" / name, limit=min(count, 1024))
    total = 0
    for images, labels in dataset.batches(64, shape, UNIT):
        assert images.shape[1:] == shape
        assert labels is not None
        assert len(labels) == len(images)
        assert images.min() >= 0
        assert images.max() <= 1
        total += len(images)
    assert total == count


def test_pieces_survive_the_way_to_another_process(tmp_path: Path) -> None:
    """Whatever the source: sent, received and made ready, they are the batches."""
    generator = np.random.default_rng(5)
    pictures = generator.integers(0, 256, (7, 8, 8, 3), np.uint8)
    labels = np.arange(7)
    (tmp_path / "set").mkdir()
    packed = []
    for index, values in enumerate(pictures):
        packed.append(picture(values))
        (tmp_path / "set" / f"{index}.png").write_bytes(packed[-1])
    offsets = np.cumsum([0, *map(len, packed)])
    jpeg = np.frombuffer(b"".join(packed), np.uint8)
    np.savez(tmp_path / "packed.npz", jpeg=jpeg, offsets=offsets, labels=labels)
    np.savez_compressed(tmp_path / "bytes.npz", images=pictures, labels=labels)
    np.save(tmp_path / "floats.npy", pictures.transpose(0, 3, 1, 2).astype(np.float32))
    sources = [tmp_path / name for name in ("set", "packed.npz", "bytes.npz", "floats.npy")]
    for source in [*sources, (pictures, labels)]:
        dataset = open_data(source)
        batches = list(dataset.batches(3, (3, 8, 8), UNIT))
        inputs, shapes = open_inputs(dataset, ["input"]), {"input": ("N", 3, 8, 8)}
        pieces = list(inputs.pieces(3, shapes, UNIT))
        assert [(piece.first, len(piece)) for piece in pieces] == [(0, 3), (3, 3), (6, 1)]
        for piece, (images, known) in zip(pieces, batches, strict=True):
            received = pickle.loads(pickle.dumps(piece))
            np.testing.assert_array_equal(received.feeds()["input"], images)
            np.testing.assert_array_equal(received.labels, known)
        few = list(inputs.pieces(3, shapes, UNIT, limit=4))
        assert [len(piece.feeds()["input"]) for piece in few] == [3, 1]
        np.testing.assert_array_equal(few[1].feeds()["input"], batches[1][0][:1])
