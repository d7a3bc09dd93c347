"""Train the embedded model: a small residual CNN on Fashion-MNIST, exported to ONNX.

The script writes three files beside itself (or into ``--output``):

* ``fashion_cnn.onnx``: the trained network, BatchNormalization nodes kept;
* ``fashion_calibration.npz``: 256 held-out images of the training set, for calibration;
* ``fashion_test.npz``: 1,000 images of the test set, for evaluation.

Run it with ``python models/train_fashion_cnn.py``. It needs torch, onnx, onnxruntime and numpy,
and the four files of Fashion-MNIST (see ``--data``).
"""

import argparse
import gzip
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

SEED = 20220427
CLASSES = 10
HELD_OUT = 5_000
CALIBRATION_IMAGES = 256
TEST_SUBSET = 1_000
OPSET = 18
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
HOW_TO_GET_THE_DATA = (
    "On Debian and Ubuntu: apt-get install dataset-fashion-mnist\n"
    "Elsewhere: download the four .gz files named in "
    "https://github.com/zalandoresearch/fashion-mnist and pass their folder with --data."
)


class ConvBatchNorm(nn.Sequential):
    """A 3x3 convolution without bias, followed by BatchNorm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)


class Residual(nn.Module):
    """Two convolutions and an identity shortcut: relu(x + f(x))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBatchNorm(channels, channels)
        self.first_relu = nn.ReLU()
        self.second = ConvBatchNorm(channels, channels)
        self.second_relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block to x [N,C,H,W]; the shape is kept."""
        return self.second_relu(x + self.second(self.first_relu(self.first(x))))


class FashionCnn(nn.Module):
    """Conv stem, two stages of (overlapping max pool, conv, residual block), dense classifier."""

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 80)) -> None:
        super().__init__()
        stem, middle, last = widths
        self.stem = ConvBatchNorm(1, stem)
        self.stem_relu = nn.ReLU()
        self.pool1 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.conv1 = ConvBatchNorm(stem, middle)
        self.relu1 = nn.ReLU()
        self.block1 = Residual(middle)
        self.pool2 = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.conv2 = ConvBatchNorm(middle, last)
        self.relu2 = nn.ReLU()
        self.block2 = Residual(last)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(last, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits [N,10] of images x [N,1,28,28] with values in 0..1."""
        x = self.stem_relu(self.stem(x))
        x = self.block1(self.relu1(self.conv1(self.pool1(x))))
        x = self.block2(self.relu2(self.conv2(self.pool2(x))))
        return self.dense(torch.flatten(self.average(x), 1))


def read_idx(path: Path) -> np.ndarray:
    """Read one gzipped IDX file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path}: not an IDX file of unsigned bytes (magic {raw[:4].hex()})")
    rank = raw[3]
    shape = np.frombuffer(raw, dtype=">u4", count=rank, offset=4)
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * rank).reshape(tuple(shape))


def load_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [N,1,28,28] and labels int64 [N] of the split ``train`` or ``test``."""
    paths = [folder / name for name in FILES[split]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise SystemExit(
            f"Fashion-MNIST not found: {', '.join(missing)} missing in {folder}\n"
            f"{HOW_TO_GET_THE_DATA}"
        )
    images, labels = (read_idx(path) for path in paths)
    return np.ascontiguousarray(images[:, None]), labels.astype(np.int64)


def to_float(images: np.ndarray) -> torch.Tensor:
    """Preprocessing ``unit``: uint8 to float32 in 0..1."""
    return torch.from_numpy(images.astype(np.float32) / np.float32(255))


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift each image by up to two pixels and mirror half of them; images [N,1,28,28]."""
    count, _, height, width = images.shape
    reach = 2
    padded = nn.functional.pad(images, (reach, reach, reach, reach))[:, 0]
    shifts = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = shifts[0, :, None] + torch.arange(height)
    columns = shifts[1, :, None] + torch.arange(width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    picked = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked[:, None]


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield shuffled index batches of one epoch; an incomplete last batch is left out."""
    order = torch.randperm(count, generator=generator)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


@torch.inference_mode()
def accuracy(model: nn.Module, images: torch.Tensor, labels: np.ndarray) -> float:
    """Top-1 accuracy in percent."""
    model.eval()
    predicted = torch.cat([model(part).argmax(1) for part in images.split(500)])
    return 100 * float((predicted.numpy() == labels).mean())


def train(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    held_out: tuple[torch.Tensor, np.ndarray],
    arguments: argparse.Namespace,
) -> None:
    """Train in place: SGD with Nesterov momentum, one-cycle schedule, label smoothing.

    The weights after the last epoch are kept; the accuracy on the held-out images is printed.
    """
    generator = torch.Generator().manual_seed(SEED)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    plain = [weight for weight in model.parameters() if weight.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": plain, "weight_decay": 0.0}],
        lr=arguments.learning_rate,
        momentum=0.9,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=arguments.learning_rate,
        total_steps=arguments.epochs * (len(images) // arguments.batch_size),
        pct_start=0.2,
    )
    loss_function = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(1, arguments.epochs + 1):
        model.train()
        started, total, steps = time.perf_counter(), 0.0, 0
        for chosen in batches(len(images), arguments.batch_size, generator):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_function(model(augment(images[chosen], generator)), labels[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            steps += 1
        print(
            f"epoch {epoch:2d}  loss {total / steps:.4f}  "
            f"held-out {accuracy(model, *held_out):.2f} %  "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )


def strip_strings(model: onnx.ModelProto) -> None:
    """Remove doc strings and exporter metadata (stack traces, paths) from the model."""
    graph = model.graph
    model.ClearField("doc_string")
    del model.metadata_props[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    del graph.value_info[:]


def export(model: nn.Module, path: Path) -> onnx.ModelProto:
    """Write the model to ONNX, BatchNormalization nodes kept, and check the file."""
    model.eval()
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        opset_version=OPSET,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamo=False,
    )
    exported = onnx.load(path)
    strip_strings(exported)
    exported.graph.name = "fashion_cnn"
    norms = [node for node in exported.graph.node if node.op_type == "BatchNormalization"]
    if not norms:
        raise SystemExit("the exporter fused the BatchNormalization nodes")
    for node in norms:
        training = [a.i for a in node.attribute if a.name == "training_mode"]
        if any(training) or len(node.output) != 1:
            raise SystemExit(f"{node.name}: BatchNormalization is in training mode")
    onnx.checker.check_model(exported, full_check=True)
    onnx.save(exported, path)
    return exported


def run_onnx(path: Path, images: torch.Tensor) -> np.ndarray:
    """Logits of the exported file by onnxruntime, in batches."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    parts = [session.run(["logits"], {"input": part.numpy()})[0] for part in images.split(500)]
    return np.concatenate(parts)


def count_macs(model: nn.Module) -> int:
    """Multiply-accumulates per image of all convolutions and dense layers (padding included)."""
    total = 0

    def count(layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output[0, 0].numel() * layer.weight.numel()

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 1, 28, 28))
    for handle in handles:
        handle.remove()
    return total


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        help="folder with the four .gz files of Fashion-MNIST (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent,
        help="folder for the three files (default: beside this script)",
    )
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=125)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> int:
    """Train, export, check and write the data files."""
    arguments = parse_arguments()
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    random = np.random.default_rng(SEED)

    images, labels = load_split(arguments.data, "train")
    test_images, test_labels = load_split(arguments.data, "test")
    order = random.permutation(len(images))
    held_out, fitted = order[:HELD_OUT], order[HELD_OUT:]
    calibration = np.sort(random.choice(held_out, CALIBRATION_IMAGES, replace=False))
    subset = np.sort(random.choice(len(test_images), TEST_SUBSET, replace=False))

    model = FashionCnn().to(memory_format=torch.channels_last)
    parameters = sum(weight.numel() for weight in model.parameters())
    print(f"{parameters:,} parameters, {count_macs(model):,} MACs per image", flush=True)
    train(
        model,
        to_float(images[fitted]),
        torch.from_numpy(labels[fitted]),
        (to_float(images[held_out]), labels[held_out]),
        arguments,
    )

    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "fashion_cnn.onnx"
    export(model, path)
    logits = run_onnx(path, to_float(test_images))
    with torch.inference_mode():
        expected = torch.cat([model(part) for part in to_float(test_images).split(500)]).numpy()
    difference = float(np.abs(logits - expected).max())
    if difference > 1e-3:
        raise SystemExit(f"onnxruntime and torch differ by {difference:.2e}")
    correct = logits.argmax(1) == test_labels
    print(f"onnxruntime against torch: largest difference {difference:.1e}")
    for name, part in (("all", slice(None)), ("fashion_test.npz", subset)):
        share = correct[part]
        print(f"test accuracy, {name}: {100 * share.mean():.2f} % of {len(share):,} images")

    np.savez_compressed(
        arguments.output / "fashion_calibration.npz",
        images=images[calibration],
        labels=labels[calibration],
    )
    np.savez_compressed(
        arguments.output / "fashion_test.npz",
        images=test_images[subset],
        labels=test_labels[subset],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
