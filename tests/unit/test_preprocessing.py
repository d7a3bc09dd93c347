"""The option --preprocess, and bytes becoming numbers."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx2snn_runtime.data.preprocessing import PRESETS, Preprocessing, parse
from onnx2snn_runtime.errors import DataError, ModelError, UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), dtype=np.uint8)


def by_formula(images: np.ndarray, scale: float, mean: list[float], std: list[float]) -> np.ndarray:
    """(u8 · scale − mean) / std for [N,C,H,W] in double precision."""
    shape = (1, -1, 1, 1)
    return (images * scale - np.reshape(mean, shape)) / np.reshape(std, shape)


GOOD = {
    "imagenet": Preprocessing(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "unit": Preprocessing(1 / 255, (0.0,), (1.0,)),
    "none": Preprocessing(1.0, (0.0,), (1.0,)),
    "ImageNet,layout=nhwc": Preprocessing(
        1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb", "nhwc"
    ),
    "mean=0.49,0.48,0.44,std=0.24,0.24,0.26": Preprocessing(
        1 / 255, (0.49, 0.48, 0.44), (0.24, 0.24, 0.26)
    ),
    "mean=103.9,116.8,123.7,scale=1,channels=bgr,layout=nhwc": Preprocessing(
        1.0, (103.9, 116.8, 123.7), (1.0,), "bgr", "nhwc"
    ),
    " std = 0.5 , mean=0.5": Preprocessing(1 / 255, (0.5,), (0.5,)),
    "scale=1/127.5,mean=1": Preprocessing(1 / 127.5, (1.0,), (1.0,)),
    "mean=-1e-3,scale=2": Preprocessing(2.0, (-1e-3,), (1.0,)),
}
BAD = {
    "": "neither a preset nor key=value",
    "imagenett": "'imagenett' is neither a preset",
    "0.5,mean=0.5": "'0.5' is neither",
    "mean=0.5,median=3": "unknown key 'median'",
    "mean=0.5,mean=0.4": "mean is given twice",
    "mean=a,b": "'a' in mean is not a number",
    "mean=": "'' in mean is not a number",
    "mean=0.1,,0.3": "'' in mean is not a number",
    "scale=1/0": "'1/0' in scale is not a number",
    "scale=1,2": "scale takes one number, not 2",
    "scale=0": "scale must be a positive number",
    "scale=nan": "scale must be a positive number",
    "std=0.2,0,0.2": "std must be positive",
    "mean=inf": "mean needs finite numbers",
    "mean=1,2,std=1,2,3": "mean has 2 values and std 3",
    "channels=gbr": "channels must be rgb or bgr, not 'gbr'",
    "layout=chw": "layout must be nchw or nhwc, not 'chw'",
    "layout=nchw,nhwc": "layout must be nchw or nhwc",
}


@pytest.mark.parametrize(("spec", "expected"), GOOD.items())
def test_specifications(spec: str, expected: Preprocessing) -> None:
    assert parse(spec) == expected
    assert Preprocessing.parse(spec) == expected


def test_nothing_asked_for() -> None:
    assert parse(None) is None


@pytest.mark.parametrize(("spec", "phrase"), BAD.items())
def test_wrong_specifications_are_explained(spec: str, phrase: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(spec)
    assert phrase in str(caught.value)


@pytest.mark.parametrize("spec", GOOD)
def test_round_trips(spec: str) -> None:
    steps = parse(spec)
    assert steps is not None
    assert Preprocessing.from_json(json.loads(json.dumps(steps.to_json()))) == steps
    assert parse(steps.spec()) == steps


@given(st.text(alphabet="meanstdclhwr=,.0123456789/-e ", max_size=30))
def test_any_text_is_read_or_refused(spec: str) -> None:
    try:
        parse(spec)
    except UsageError:
        return


@pytest.mark.parametrize(
    "document",
    [None, [], "unit", {"scale": "x"}, {"mean": 3}, {"std": [0]}, {"layout": 7}, {"other": 1},
     {"mean": ["a"]}, {"channels": ["rgb"]}, {"scale": None}],
)  # fmt: skip
def test_malformed_metadata_is_a_model_error(document: object) -> None:
    with pytest.raises(ModelError, match="stored preprocessing"):
        Preprocessing.from_json(document)


def test_empty_metadata_means_the_defaults() -> None:
    assert Preprocessing.from_json({}) == PRESETS["unit"]


def test_formula() -> None:
    steps = PRESETS["imagenet"]
    result = steps.apply(IMAGES)
    assert result.dtype == np.float32
    expected = by_formula(IMAGES, 1 / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    np.testing.assert_array_equal(result, expected.astype(np.float32))
    unit = PRESETS["unit"].apply(IMAGES)
    np.testing.assert_array_equal(unit, IMAGES.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(PRESETS["none"].apply(IMAGES), IMAGES.astype(np.float32))


def test_layouts_agree() -> None:
    steps = PRESETS["imagenet"]
    last = IMAGES.transpose(0, 2, 3, 1)
    for axis in (-1, 3):
        result = steps.apply(last, axis)
        np.testing.assert_array_equal(result.transpose(0, 3, 1, 2), steps.apply(IMAGES))
        assert result.flags.c_contiguous


def test_batches_do_not_matter() -> None:
    steps = PRESETS["imagenet"]
    parts = [steps.apply(IMAGES[i : i + 1]) for i in range(4)]
    np.testing.assert_array_equal(np.concatenate(parts), steps.apply(IMAGES))


def test_bgr_reverses_before_mean_and_std() -> None:
    steps = parse("mean=103,116,123,scale=1,channels=bgr")
    assert steps is not None
    expected = by_formula(IMAGES[:, ::-1], 1.0, [103, 116, 123], [1, 1, 1])
    np.testing.assert_array_equal(steps.apply(IMAGES), expected.astype(np.float32))
    with pytest.raises(DataError, match="bgr needs 3 channels"):
        steps.apply(IMAGES[:, :1])


def test_wrong_images() -> None:
    with pytest.raises(DataError, match="not float32"):
        PRESETS["unit"].apply(IMAGES.astype(np.float32))
    with pytest.raises(DataError, match="has 3 channels, the images have 1"):
        PRESETS["imagenet"].apply(IMAGES[:, :1])
