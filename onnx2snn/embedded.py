"""Where the files that come with the program are: the embedded model and its data.

A wheel carries them inside the package (``onnx2snn/_models``); in a checkout they lie in
``models/`` beside the package.
"""

from importlib import resources
from pathlib import Path

from onnx2snn_runtime.errors import StorageError

EMBEDDED_MODEL = "fashion_cnn.onnx"
EMBEDDED_CALIBRATION = "fashion_calibration.npz"
EMBEDDED_TEST = "fashion_test.npz"


def embedded_file(name: str) -> Path:
    """Return the path of an embedded file.

    Args:
        name: file name, one of ``EMBEDDED_MODEL``, ``EMBEDDED_CALIBRATION``, ``EMBEDDED_TEST``.

    Raises:
        StorageError: the installation does not hold the file.

    Example:
        >>> embedded_file(EMBEDDED_MODEL).name
        'fashion_cnn.onnx'
    """
    package = Path(str(resources.files("onnx2snn")))
    folders = (package / "_models", package.parent / "models")
    for folder in folders:
        path = folder / name
        if path.is_file():
            return path
    raise StorageError(
        f"embedded file {name!r} not found in {' or '.join(map(str, folders))}",
        advice="reinstall onnx2snn, or restore models/ in the checkout",
    )
