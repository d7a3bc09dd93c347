"""Networks that PyTorch exports here and now, by both exporters."""

import contextlib
import io
import logging
import warnings

import onnx
import pytest
from passes.helpers import difference, normal, operators

torch = pytest.importorskip("torch", reason="exports need PyTorch")
pytestmark = pytest.mark.slow
functional = torch.nn.functional


class ShortcutByPadding(torch.nn.Module):
    """A CIFAR ResNet block whose shortcut takes every second pixel and pads channels."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.second = torch.nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.second_norm = torch.nn.BatchNorm2d(16)
        self.linear = torch.nn.Linear(16, 10)

    def forward(self, x):
        x = functional.relu(self.norm(self.first(x)))
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = functional.relu(self.second_norm(self.second(x)) + shortcut)
        return self.linear(functional.avg_pool2d(x, x.shape[3]).view(x.shape[0], -1))


class ChannelShuffle(torch.nn.Module):
    """Split, depthwise convolution, shuffle, two ways to resize."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(16)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.depthwise_norm = torch.nn.BatchNorm2d(8)
        self.linear = torch.nn.Linear(16, 5)

    def forward(self, x):
        left, right = functional.relu(self.norm(self.first(x))).chunk(2, 1)
        right = functional.relu(self.depthwise_norm(self.depthwise(right)))
        x = torch.cat([left, right], 1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = functional.interpolate(x, size=(8, 8), mode="bilinear")
        return self.linear(x.mean([2, 3]))


class Activations(torch.nn.Module):
    """Many activations; norms behind ConvTranspose and Linear, and before an unpadded Conv."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.transposed = torch.nn.ConvTranspose2d(8, 8, 2, 2, groups=2)
        self.norm, self.before = torch.nn.BatchNorm2d(8), torch.nn.BatchNorm2d(8)
        self.second = torch.nn.Conv2d(8, 8, 1)
        self.hidden, self.hidden_norm = torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16)
        self.slope, self.drop = torch.nn.PReLU(16), torch.nn.Dropout(0.5)
        self.linear = torch.nn.Linear(16, 3)

    def forward(self, x):
        x = functional.relu(self.norm(self.transposed(self.first(x))))
        x = self.second(self.before(functional.max_pool2d(x, 3, 2, 1)))
        x = functional.hardswish(x) + functional.mish(x) + x.clamp(0, 4) + functional.relu6(x)
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.linear(self.drop(self.slope(self.hidden_norm(self.hidden(x)))))


NETWORKS = [ShortcutByPadding, ChannelShuffle, Activations]
SHAPE_OPERATORS = {"Shape", "Gather", "ConstantOfShape", "Cast", "Constant", "BatchNormalization"}


def export(network, *, dynamo, free, fold, height_too=False):
    torch.manual_seed(0)
    net = network().eval()
    for module in net.modules():
        if hasattr(module, "running_var"):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    image = torch.randn(2 if free else 1, 3, 16, 16)
    axes = {0: "n", 2: "h", 3: "w"} if height_too else {0: "n"}
    file = io.BytesIO()
    quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), quiet[0], quiet[1]:
            warnings.simplefilter("ignore")
            if dynamo:
                names = {axis: torch.export.Dim(name) for axis, name in axes.items()}
                program = torch.onnx.export(
                    net, (image,), dynamo=True, input_names=["x"], optimize=fold,
                    dynamic_shapes=(names,) if free else None,
                )  # fmt: skip
                return program.model_proto
            torch.onnx.export(
                net, (image,), file, dynamo=False, input_names=["x"], output_names=["y"],
                opset_version=17, do_constant_folding=fold,
                dynamic_axes={"x": axes, "y": {0: "n"}} if free else None,
            )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_export(network, dynamo, fold):
    source = export(network, dynamo=dynamo, free=True, fold=fold)
    proto, _ = normal(source)
    assert not SHAPE_OPERATORS.intersection(operators(proto))
    fixed, _ = normal(export(network, dynamo=dynamo, free=False, fold=fold), batches=(1,))
    assert not SHAPE_OPERATORS.intersection(operators(fixed))
    source.graph.output[0].name = fixed.graph.output[0].name
    for node in source.graph.node:
        node.output[:] = [
            fixed.graph.output[0].name if name == proto.graph.output[0].name else name
            for name in node.output
        ]
    assert difference(source, fixed) < 1e-4


@pytest.mark.parametrize("dynamo", [False, True])
def test_export_with_open_height_and_width(dynamo):
    source = export(ChannelShuffle, dynamo=dynamo, free=True, fold=True, height_too=True)
    proto, _ = normal(source, input_shapes={"x": (1, 3, 16, 16)})
    assert not SHAPE_OPERATORS.intersection(operators(proto))
