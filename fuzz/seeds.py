"""The seed corpus: ``python -m fuzz.seeds FOLDER`` writes a folder of files for every target."""

import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from attacks.base import images, network, npz, spiking
from fuzz.targets import TARGETS


def _pictures() -> list[bytes]:
    from PIL import Image

    image = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
    contents = []
    for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"):
        stream = io.BytesIO()
        image.save(stream, kind)
        contents.append(stream.getvalue())
    return contents


def _journals() -> list[bytes]:
    from onnx2snn.evaluation.journal import Journal

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        with Journal(path, "key") as journal:
            journal.append({"done": 32, "norms": {"y": 1.5}})
        return [path.read_bytes()]


def _results() -> list[bytes]:
    from onnx2snn.evaluation.evaluate import evaluate
    from onnx2snn.report.collect import collect
    from onnx2snn_runtime.network import Network

    network, data = Network(spiking(), backend="numpy"), (images(4), np.arange(4))
    document = evaluate(network, data, timesteps=[1, 2])
    return [json.dumps(d).encode() for d in (
        document, {**document, "report": collect(network, data, timesteps=2)}
    )]  # fmt: skip


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, images(2))
    return stream.getvalue()


def seeds(target: str) -> list[bytes]:
    """Inputs that the target accepts."""
    networks = [network().SerializeToString(), network(opset=13, ir_version=8).SerializeToString()]
    found: dict[str, list[bytes]] = {
        "model": networks,
        "model_file": networks,
        "convert": networks[:1],
        "arrays": [npz(images=images(4), labels=np.arange(4)), _npy(),
                   npz(images=np.zeros((4, 8, 8, 1), np.uint8), y=np.eye(4))],
        "picture": _pictures(),
        "journal": _journals(),
        "preprocess": [b"imagenet", b"mean=0.5,0.4,0.3,std=0.2,scale=1/255,channels=bgr"],
    }  # fmt: skip
    if target == "results":
        return _results()
    if target == "spiking":
        networks = [spiking(recipe) for recipe in ("fast", "paper", "refine")]
        return [n.SerializeToString() for n in (*networks, spiking(precision="int8"))]
    return found[target]


def main() -> int:
    """Write the corpus."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    for name in TARGETS:
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        for index, content in enumerate(seeds(name)):
            (folder / f"seed{index}").write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
