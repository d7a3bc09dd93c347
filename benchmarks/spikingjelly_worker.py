"""SpikingJelly's converter on the networks of ``cpu.py``; runs in an environment of its own.

Needs torch and spikingjelly, not onnx2snn. Reads commands from stdin, one JSON document a line, and
answers each with one: {"network", "batch", "timesteps"} → {"cpu_s"}. Weights are random: they do
not change what a timestep costs.

    python -m venv sj && sj/bin/pip install torch==2.13.0 spikingjelly==2.0.0
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable

import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import Tensor, nn

CALIBRATION_IMAGES = 8  # its quantile takes 16 million values at most
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def conv_bn_relu(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """3×3 convolution, batch normalisation, ReLU."""
    return [
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    ]  # fmt: skip


class Shortcut(nn.Module):
    """Every second pixel, and zero channels: the ResNet of the CIFAR experiments, option A."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(1, 2)
        self.widen = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The converter knows no Slice and no Pad: a 1×1 convolution does the same."""
        return self.widen(self.pool(x))


class Block(nn.Module):
    """Basic residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*conv_bn_relu(inputs, outputs, stride))
        self.second = nn.Sequential(*conv_bn_relu(outputs, outputs)[:2])
        self.shortcut = nn.Identity() if stride == 1 else Shortcut(inputs, outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """relu(conv(conv(x)) + shortcut(x))."""
        return self.relu(self.second(self.first(x)) + self.shortcut(x))


class Fire(nn.Module):
    """SqueezeNet's module."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeeze, 1), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(squeeze, expand, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(squeeze, expand, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Both expansions side by side."""
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


def resnet20() -> nn.Module:
    """ResNet-20 for 32×32 pictures."""
    blocks = [Block(16, 16, 1) for _ in range(3)]
    blocks += [Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1)]
    blocks += [Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1)]
    return nn.Sequential(
        *conv_bn_relu(3, 16), *blocks, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10)
    )


def vgg16_bn() -> nn.Module:
    """VGG16-BN for 32×32 pictures."""
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG16:
        layers += conv_bn_relu(channels, width) if width else [nn.MaxPool2d(2, 2)]
        channels = width or channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1 for 224×224 pictures."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(),
        Fire(64, 16, 64), Fire(128, 16, 64), pool(),
        Fire(128, 32, 128), Fire(256, 32, 128), pool(),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
        nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AvgPool2d(13), nn.Flatten(),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-20": (resnet20, 32),
    "VGG16-BN": (vgg16_bn, 32),
    "SqueezeNet 1.1": (squeezenet, 224),
}


def convert(name: str) -> nn.Module:
    """The network as SpikingJelly converts it, ready to step."""
    build, size = NETWORKS[name]
    images = torch.randn(CALIBRATION_IMAGES, 3, size, size)
    batches = [(images, torch.zeros(len(images), dtype=torch.long))]
    recipe = ann2snn.RateCodingRecipe(dataloader=batches, mode="99.9%")
    network = ann2snn.Converter(recipe=recipe).convert(build().eval()).eval()
    functional.set_step_mode(network, "s")
    return network


@torch.inference_mode()
def run(network: nn.Module, images: Tensor, timesteps: int) -> float:
    """CPU seconds of all steps."""
    functional.reset_net(network)
    started = time.process_time()
    total = network(images)
    for _ in range(timesteps - 1):
        total = total + network(images)
    return time.process_time() - started


def main() -> None:
    """Answer commands until stdin closes."""
    torch.manual_seed(0)
    torch.set_num_threads(int(sys.argv[1]))
    networks: dict[str, nn.Module] = {}
    peer = importlib.metadata.version("spikingjelly")
    versions = f"torch {torch.__version__}, SpikingJelly {peer}"
    print(json.dumps({"versions": versions}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        name = command["network"]
        if name not in networks:
            networks[name] = convert(name)
        size = NETWORKS[name][1]
        images = torch.randn(command["batch"], 3, size, size)
        seconds = run(networks[name], images, command["timesteps"])
        print(json.dumps({"cpu_s": seconds}), flush=True)


if __name__ == "__main__":
    main()
