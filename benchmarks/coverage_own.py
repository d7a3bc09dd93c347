"""Networks of ``coverage_table.py`` that no library has: 1-D, 3-D, generator, U-Nets, YOLO."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensor = Any


def conv_norm(inputs: int, outputs: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Convolution 3x3, BatchNorm, activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), activation()
    )


class UNet(nn.Module):
    """Three scales, two skip connections.

    Args:
        up: ``bilinear``, ``nearest`` or ``transposed``.
    """

    def __init__(self, up: str) -> None:
        super().__init__()
        self.up = up
        width = 16
        self.down1 = self.double(3, width)
        self.down2 = self.double(width, 2 * width)
        self.bottom = self.double(2 * width, 4 * width)
        if up == "transposed":
            self.rise2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
            self.rise1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        else:
            self.rise2 = nn.Conv2d(4 * width, 2 * width, 1)
            self.rise1 = nn.Conv2d(2 * width, width, 1)
        self.up2, self.up1 = self.double(4 * width, 2 * width), self.double(2 * width, width)
        self.last = nn.Conv2d(width, 5, 1)

    @staticmethod
    def double(inputs: int, outputs: int) -> nn.Sequential:
        """Two convolutions."""
        return nn.Sequential(
            conv_norm(inputs, outputs, nn.ReLU), conv_norm(outputs, outputs, nn.ReLU)
        )

    def rise(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Twice the size."""
        if self.up == "transposed":
            return layer(x)
        options = {} if self.up == "nearest" else {"align_corners": False}
        return layer(functional.interpolate(x, scale_factor=2, mode=self.up, **options))

    def forward(self, x: Tensor) -> Tensor:
        """[N,3,H,W] to [N,5,H,W]."""
        first = self.down1(x)
        second = self.down2(functional.max_pool2d(first, 2))
        x = self.bottom(functional.max_pool2d(second, 2))
        x = self.up2(torch.cat([self.rise(self.rise2, x), second], 1))
        x = self.up1(torch.cat([self.rise(self.rise1, x), first], 1))
        return self.last(x)


class Yolo(nn.Module):
    """Stride-2 convolutions, spatial pyramid pooling, a feature pyramid and two decoded heads."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.stem = conv_norm(3, 16, activation)
        self.first = nn.Sequential(conv_norm(16, 32, activation), nn.MaxPool2d(2))
        self.second = nn.Sequential(conv_norm(32, 64, activation), nn.MaxPool2d(2))
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))
        self.merge = conv_norm(256, 32, activation)
        self.side = conv_norm(64, 32, activation)
        self.heads = nn.ModuleList(nn.Conv2d(32, 3 * 8, 1) for _ in range(2))

    def decode(self, x: Tensor, stride: int) -> Tensor:
        """[N,24,H,W] to [N,3·H·W,8]: centres, sizes, objectness, classes."""
        n, _, h, w = x.shape
        x = x.view(n, 3, 8, h, w).permute(0, 1, 3, 4, 2).sigmoid()
        centre, size, rest = x.split((2, 2, 4), 4)
        boxes = torch.cat([(centre * 2 - 0.5) * stride, (size * 2) ** 2 * 10, rest], 4)
        return boxes.reshape(n, -1, 8)

    def forward(self, x: Tensor) -> Tensor:
        """[N,3,H,W] to [N,boxes,8]."""
        first = self.first(self.stem(x))
        deep = self.second(first)
        deep = self.merge(torch.cat([deep, *(pool(deep) for pool in self.pools)], 1))
        wide = functional.interpolate(deep, scale_factor=2, mode="nearest")
        wide = self.side(torch.cat([wide, first], 1))
        outputs = [self.decode(self.heads[0](wide), 4), self.decode(self.heads[1](deep), 8)]
        return torch.cat(outputs, 1)


def conv1d() -> nn.Module:
    """Signals of 64 samples in 4 channels."""
    return nn.Sequential(
        nn.Conv1d(4, 16, 5, padding=2), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 6),
    )  # fmt: skip


def conv3d() -> nn.Module:
    """Volumes of 8x16x16."""
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(8, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU(), nn.AvgPool3d(2),
        nn.Flatten(), nn.Linear(16 * 4 * 4 * 4, 5),
    )  # fmt: skip


def dcgan() -> nn.Module:
    """A generator: 16 numbers to an image."""

    def rise(inputs: int, outputs: int, stride: int, padding: int) -> list[nn.Module]:
        return [
            nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False),
            nn.BatchNorm2d(outputs), nn.ReLU(),
        ]  # fmt: skip

    return nn.Sequential(
        *rise(16, 64, 1, 0), *rise(64, 32, 2, 1), *rise(32, 16, 2, 1),
        nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "conv1d": conv1d,
    "conv3d": conv3d,
    "dcgan": dcgan,
    "unet_bilinear": lambda: UNet("bilinear"),
    "unet_nearest": lambda: UNet("nearest"),
    "unet_transposed": lambda: UNet("transposed"),
    "yolo_leaky": lambda: Yolo(lambda: nn.LeakyReLU(0.1)),
    "yolo_silu": lambda: Yolo(nn.SiLU),
}
