"""SpikingJelly's conversion of a trained network, step by step; runs in an environment of its own.

Needs torch and spikingjelly, not onnx2snn. The network is built as in ``spikingjelly_worker`` and
given the weights of an ONNX file, whose BatchNormalization is folded. Started by
``time_to_accuracy.py`` with a folder that holds ``weights.npz`` (weight and bias of every weighted
operator, in order), ``calibration.npy`` and ``images.npy``. Answers each line
{"network", "mode", "first", "count", "timesteps": [T, …]} with the classes after those steps and
the CPU seconds up to each of them.
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from spikingjelly.activation_based import ann2snn, functional
from spikingjelly_worker import NETWORKS, Shortcut
from torch import nn

CALIBRATION_BATCH = 128
TOLERANCE = 1e-3  # of logits


@torch.no_grad()
def load_weights(network: nn.Module, folder: Path) -> nn.Module:
    """Put the weights of the ONNX file where they belong; BatchNormalization only adds the bias."""
    stored = np.load(folder / "weights.npz")
    weights = [torch.from_numpy(stored[name]) for name in stored.files]
    widening = {id(part.widen) for part in network.modules() if isinstance(part, Shortcut)}
    modules = [module for module in network.modules() if id(module) not in widening]
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.copy_(weights.pop(0))
            bias = weights.pop(0)
            if module.bias is not None:
                module.bias.copy_(bias)
            elif isinstance(following, nn.BatchNorm2d):
                following.bias.copy_(bias)
                following.running_var.fill_(1.0 - following.eps)
    for part in network.modules():
        if isinstance(part, Shortcut):
            widen = part.widen.weight
            more = widen.shape[0] - widen.shape[1]
            widen.zero_()
            for channel in range(widen.shape[1]):  # zero channels on both sides
                widen[channel + more // 2, channel] = 1
    assert not weights, "the network has fewer weights than the ONNX file"
    return network.eval()


@torch.no_grad()
def check(network: nn.Module, folder: Path) -> None:
    """The network must be the ANN of the ONNX file."""
    images, expected = (np.load(folder / f"{name}.npy")[:8] for name in ("images", "logits"))
    found = network(torch.from_numpy(images)).numpy()
    difference = float(np.abs(found - expected).max())
    assert difference < TOLERANCE, f"logits differ by {difference} from the ONNX file"


def convert(network: nn.Module, mode: str, folder: Path) -> nn.Module:
    """SpikingJelly's own conversion with its own calibration."""
    images = torch.from_numpy(np.load(folder / "calibration.npy"))
    batches = [(part, torch.zeros(len(part))) for part in images.split(CALIBRATION_BATCH)]
    recipe = ann2snn.RateCodingRecipe(dataloader=batches, mode=mode)
    spiking = ann2snn.Converter(recipe=recipe).convert(network).eval()
    functional.set_step_mode(spiking, "s")
    return spiking


@torch.inference_mode()
def run(network: nn.Module, images: torch.Tensor, timesteps: list[int]) -> tuple[list, list]:
    """Classes after each of the steps, and CPU seconds up to there."""
    functional.reset_net(network)
    classes, seconds = [], []
    started = time.process_time()
    total = 0.0
    for step in range(1, timesteps[-1] + 1):
        total = total + network(images)
        if step in timesteps:
            seconds.append(time.process_time() - started)
            classes.append(total.argmax(dim=1).tolist())
    return classes, seconds


def main() -> None:
    """Answer commands until stdin closes."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    peer = importlib.metadata.version("spikingjelly")
    versions = f"torch {torch.__version__}, SpikingJelly {peer}"
    print(json.dumps({"versions": versions}), flush=True)
    converted: dict[tuple[str, str], nn.Module] = {}
    images = torch.from_numpy(np.load(folder / "images.npy"))
    for line in sys.stdin:
        command = json.loads(line)
        key = command["network"], command["mode"]
        if key not in converted:
            network = load_weights(NETWORKS[key[0]][0](), folder)
            check(network, folder)
            converted[key] = convert(network, key[1], folder)
            run(converted[key], images[:1], [1])  # allocate
        part = images[command["first"] : command["first"] + command["count"]]
        classes, seconds = run(converted[key], part, command["timesteps"])
        print(json.dumps({"classes": classes, "cpu_s": seconds}), flush=True)


if __name__ == "__main__":
    main()
