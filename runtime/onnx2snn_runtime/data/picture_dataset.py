"""Pictures as a set of images, decoded when their turn comes."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from onnx2snn_runtime.data.dataset import Array, Dataset, Prepare, Update
from onnx2snn_runtime.data.labels import Labels
from onnx2snn_runtime.data.layout import Shape, channel_axis, shape_text
from onnx2snn_runtime.data.pictures import decode
from onnx2snn_runtime.data.preprocessing import Preprocessing
from onnx2snn_runtime.errors import DataError


class PictureDataset(Dataset):
    """Pictures that are decoded when their turn comes.

    Args:
        name: how to call the source.
        count: number of pictures.
        contents: makes an iterator of (name, bytes) over all the pictures.
        hash_content: feeds the content to a hash.
        labels: class numbers, or None.
        limit: take the first so many.
    """

    def __init__(
        self,
        name: str,
        count: int,
        contents: Callable[[], Iterator[tuple[str, bytes]]],
        hash_content: Callable[[Update], None],
        labels: Labels | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(name, count, labels, limit)
        self._contents = contents
        self._hash_content = hash_content

    def as_array(self) -> Array:
        """Pictures have no common size before a network gives them one.

        Raises:
            DataError: always.
        """
        raise DataError(f"{self.name} holds pictures, not an array: take its batches")

    def _parts(
        self, size: int, shape: Shape | None, preprocessing: Preprocessing | None
    ) -> Iterator[tuple[list[tuple[str, bytes]], Prepare]]:
        steps = self.preprocessing_for_bytes(preprocessing)
        shape = shape or (None, None, None)
        if len(shape) != 3:
            raise DataError(
                f"{self.name} holds pictures, the model expects {shape_text(shape)}",
                advice="give arrays of that shape in an .npz or .npy",
            )
        axis = channel_axis(shape, steps.layout)
        channels = shape[axis] or 3
        if channels not in (1, 3):
            raise DataError(
                f"{self.name} holds pictures of 1 or 3 channels, the model expects "
                f"{shape_text(shape)}: {channels} channels",
                advice="--preprocess ...,layout=nchw or layout=nhwc says which axis they are",
            )
        height, width = shape[1:] if axis == 0 else shape[:2]
        known = height or width
        target = None if known is None else (height or known, width or known)
        prepare = partial(decode_all, channels=channels, target=target, axis=axis, steps=steps)
        contents = islice(self._contents(), self.count)
        while part := list(islice(contents, size)):
            yield part, prepare

    def _hash(self, update: Update) -> None:
        self._hash_content(update)
        if self._all_labels is not None:
            update(self._all_labels.tobytes())


def decode_all(
    contents: Sequence[tuple[str, bytes]],
    *,
    channels: int,
    target: tuple[int, int] | None,
    axis: int,
    steps: Preprocessing,
) -> NDArray[np.float32]:
    """Network inputs [N,*] of some pictures.

    Args:
        contents: name and bytes of each.
        channels: 1 or 3.
        target: height and width, if they are known.
        axis: of the channels in one image, 0 or -1.
        steps: what turns bytes into numbers.

    Raises:
        DataError: one is no picture, or they differ in size and no target is given.
    """
    pictures: list[NDArray[np.uint8]] = []
    for name, content in contents:
        picture = decode(content, name, channels, target)
        if pictures and picture.shape != pictures[0].shape:
            raise DataError(
                f"{name} is {picture.shape[1]}×{picture.shape[0]}, others are "
                f"{pictures[0].shape[1]}×{pictures[0].shape[0]}, and the model does not say",
                advice="fix its size: --input-shape NAME:1,3,224,224",
            )
        pictures.append(picture)
    images = np.stack(pictures)  # [N,H,W,C]
    return steps.apply(np.moveaxis(images, -1, 1), 1) if axis == 0 else steps.apply(images, -1)
