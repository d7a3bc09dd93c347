"""Torch and SpikingJelly on ResNet-18 on a GPU, for ``gpu.py``.

May run in an environment of its own: needs torch, torchvision and spikingjelly, not onnx2snn.
Prints one JSON document: rows of {"name", "timesteps", "ms_per_image", "runs", "peak_bytes"}, and
the versions.

SpikingJelly chooses its kernels by the environment: Triton's here, its wheel has no others.

    python benchmarks/spikingjelly_gpu.py --batch 64 --timesteps 4 16 32 --seconds 120
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("SJ_IF_CUDA_IMPLEMENTATION", "triton")

import torch
import torchvision
from spikingjelly.activation_based import ann2snn, functional
from torch import Tensor, nn

WARM_UPS = 3
MOST_RUNS = 20


def measure(work: Callable[[], object], seconds: float) -> dict:
    """Median milliseconds by events, and the peak of allocated memory."""
    torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UPS):
        work()
    torch.cuda.synchronize()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < MOST_RUNS and (not times or time.perf_counter() - started < seconds):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return {
        "ms": statistics.median(times),
        "runs": len(times),
        "peak_bytes": torch.cuda.max_memory_allocated(),
    }


def spiking(network: nn.Module, images: Tensor) -> nn.Module:
    """The network as SpikingJelly converts it, all steps at once."""
    batches = [(images[:8].float().cpu(), torch.zeros(8, dtype=torch.long))]
    recipe = ann2snn.RateCodingRecipe(dataloader=batches, mode="99.9%")
    converted = ann2snn.Converter(recipe=recipe).convert(network.cpu().float()).eval()
    functional.set_step_mode(converted, "m")
    return converted


def stepped(network: nn.Module, images: Tensor, timesteps: int) -> Callable[[], object]:
    """All steps of a constant input."""
    sequence = images.unsqueeze(0).expand(timesteps, *images.shape)

    def work() -> Tensor:
        functional.reset_net(network)
        return network(sequence).mean(0)

    return work


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[4, 16, 32])
    parser.add_argument("--seconds", type=float, default=120.0, help="for everything")
    options = parser.parse_args()
    torch.manual_seed(0)
    each = options.seconds / (2 + 2 * len(options.timesteps))
    rows, problems = [], []

    def row(name: str, timesteps: int, work: Callable[[], object]) -> None:
        found = measure(work, each)
        per_image = found.pop("ms") / options.batch
        rows.append({"name": name, "timesteps": timesteps, "ms_per_image": per_image, **found})

    for name, dtype, layout in (
        ("fp32/TF32", torch.float32, torch.contiguous_format),
        ("fp16, channels last", torch.float16, torch.channels_last),
    ):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        images = torch.randn(options.batch, 3, 224, 224)
        network = torchvision.models.resnet18().eval()
        dense = network.cuda().to(dtype=dtype, memory_format=layout)
        on_device = images.cuda().to(dtype=dtype, memory_format=layout)
        row(f"torch ANN, {name}", 1, lambda dense=dense, x=on_device: dense(x))
        try:
            converted = spiking(network, images).cuda().to(dtype=dtype, memory_format=layout)
            for timesteps in options.timesteps:
                row(f"SpikingJelly, {name}", timesteps, stepped(converted, on_device, timesteps))
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            problems.append(f"SpikingJelly, {name}: {error}")
    versions = {item: importlib.metadata.version(item) for item in ("torch", "spikingjelly")}
    print(json.dumps({"rows": rows, "problems": problems, "versions": versions}))


if __name__ == "__main__":
    main()
