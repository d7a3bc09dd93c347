"""The architectures of ``coverage_table.py``, and how the frameworks build and export them.

Weights are random. BatchNorm gets random gains and offsets, then the statistics of random images,
as a trained network has; gains that are initialised to (almost) nothing, as the layer scale of
ConvNeXt, are drawn anew, else whole branches would not be tested.
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

SEED = 20260101
STATISTICS_IMAGES = 256  # of fewer, deep networks explode on other images
Array = Any


@dataclass(frozen=True)
class Network:
    """One architecture.

    Attributes:
        name: of the architecture, also of its files.
        library: ``torchvision``, ``timm``, ``keras`` or ``own``.
        shape: of an image without batch, channels first for PyTorch and last for Keras.
        group: ``survey`` (the 42), ``keras`` or ``timm``.
        pixels: whether the network takes 0..255 and preprocesses itself.
    """

    name: str
    library: str
    shape: tuple[int, ...]
    group: str
    pixels: bool = False

    @property
    def exporters(self) -> tuple[str, ...]:
        """Ways to an ONNX file."""
        return ("tf2onnx",) if self.library == "keras" else ("legacy", "dynamo")

    def images(self, count: int, seed: int) -> Array:
        """Smooth random fields with some noise, of random brightness and contrast per image.

        White noise would not do: averaged over space, all its images look alike.
        """
        generator = np.random.default_rng([SEED, seed])
        sizes = self.shape[:-1] if self.library == "keras" else self.shape[1:]
        channels = self.shape[-1] if self.library == "keras" else self.shape[0]
        coarse = generator.standard_normal((count, channels, *(min(4, s) for s in sizes)))
        for axis, size in enumerate(sizes, 2):
            positions = np.linspace(0, coarse.shape[axis] - 1, size)
            below = np.minimum(positions.astype(int), max(coarse.shape[axis] - 2, 0))
            part = (positions - below).reshape(-1, *[1] * (coarse.ndim - axis - 1))
            above = np.minimum(below + 1, coarse.shape[axis] - 1)
            coarse = coarse.take(below, axis) * (1 - part) + coarse.take(above, axis) * part
        ones = [1] * len(sizes)
        contrast = generator.uniform(0.5, 1.5, (count, 1, *ones))
        brightness = generator.standard_normal((count, channels, *ones)) * 0.5
        images = coarse * contrast + brightness + 0.3 * generator.standard_normal(coarse.shape)
        if self.library == "keras":
            images = np.moveaxis(images, 1, -1)
        if self.pixels:
            images = np.clip(np.rint(127.5 + 60 * images), 0, 255)
        return np.ascontiguousarray(images, dtype=np.float32)


SMALL, LARGE, TINY = (3, 64, 64), (3, 96, 96), (3, 32, 32)
TORCHVISION = {
    "alexnet": (3, 224, 224), "convnext_tiny": SMALL, "densenet121": SMALL,
    "efficientnet_b0": SMALL, "googlenet": SMALL, "inception_v3": (3, 107, 107),
    "lraspp_mobilenet_v3_large": SMALL, "mnasnet0_5": SMALL, "mobilenet_v2": SMALL,
    "mobilenet_v3_small": SMALL, "regnet_x_400mf": SMALL, "regnet_y_400mf": SMALL,
    "resnet18": SMALL, "resnet50": SMALL, "resnext50_32x4d": SMALL, "shufflenet_v2_x1_0": SMALL,
    "squeezenet1_1": SMALL, "vgg11_bn": TINY, "vgg16_bn": TINY, "wide_resnet50_2": SMALL,
}  # fmt: skip
TIMM = {
    "cspdarknet53": SMALL, "dpn68": SMALL, "ghostnet_100": SMALL, "inception_v4": LARGE,
    "repvgg_a0": SMALL, "res2net50_26w_4s": SMALL, "resnetblur18": SMALL, "seresnet18": SMALL,
    "xception41p": SMALL,
}  # fmt: skip
OWN = {
    "conv1d": (4, 64), "conv3d": (1, 8, 16, 16), "dcgan": (16, 1, 1), "unet_bilinear": TINY,
    "unet_nearest": TINY, "unet_transposed": TINY, "yolo_leaky": SMALL, "yolo_silu": SMALL,
}  # fmt: skip
TIMM_MORE = (
    "convnextv2_atto", "dla34", "eca_nfnet_l0", "edgenext_xx_small", "ese_vovnet19b_dw",
    "gcresnext26ts", "gernet_s", "ghostnetv2_100", "hardcorenas_a", "hrnet_w18_small",
    "inception_next_atto", "lcnet_050", "mixnet_s", "mobilenetv4_conv_small", "mobileone_s0",
    "resnest14d", "rexnet_100", "selecsls42b", "starnet_s1", "tf_efficientnetv2_b0",
)  # fmt: skip
PHOTO = (3, 224, 224)
HYBRIDS = {
    "botnet26t_256": (3, 256, 256), "coatnet_nano_rw_224": PHOTO, "convmixer_768_32": SMALL,
    "efficientformer_l1": PHOTO, "fastvit_t8": SMALL, "levit_128s": PHOTO,
    "mobilevit_xxs": SMALL, "poolformer_s12": SMALL, "repvit_m0_9": SMALL,
    "resmlp_12_224": PHOTO, "vit_tiny_patch16_224": PHOTO,
}  # fmt: skip
KERAS_SURVEY = ("EfficientNetB0", "MobileNet", "MobileNetV2", "ResNet50V2", "Xception")
KERAS_MORE = (
    "MobileNetV3Small", "MobileNetV3Large", "NASNetMobile", "EfficientNetB1", "EfficientNetV2B0",
    "EfficientNetV2B1", "DenseNet121", "EfficientNetB2", "EfficientNetV2B2", "EfficientNetB3",
    "EfficientNetV2B3", "DenseNet169", "EfficientNetB4", "DenseNet201", "EfficientNetV2S",
    "InceptionV3", "ResNet50", "ConvNeXtTiny", "EfficientNetB5", "VGG16", "VGG19", "ResNet101",
    "ResNet101V2", "EfficientNetB6", "ConvNeXtSmall", "EfficientNetV2M", "InceptionResNetV2",
    "ResNet152", "ResNet152V2", "EfficientNetB7", "NASNetLarge", "ConvNeXtBase",
    "EfficientNetV2L", "ConvNeXtLarge", "ConvNeXtXLarge",
)  # fmt: skip
KERAS_SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71, "MobileNet": 64,
               "MobileNetV2": 64, "EfficientNetB0": 64, "ResNet50V2": 64}  # fmt: skip
PREPROCESSING = ("ConvNeXt", "EfficientNet", "MobileNetV3")


def networks() -> list[Network]:
    """All architectures, the quick ones of the survey first."""

    def keras(name: str, group: str) -> Network:
        size = KERAS_SIZES.get(name, 32)
        pixels = name.startswith(PREPROCESSING)
        return Network(name, "keras", (size, size, 3), group, pixels)

    return [
        *(Network(name, "own", shape, "survey") for name, shape in OWN.items()),
        *(Network(name, "torchvision", shape, "survey") for name, shape in TORCHVISION.items()),
        *(Network(name, "timm", shape, "survey") for name, shape in TIMM.items()),
        *(keras(name, "survey") for name in KERAS_SURVEY),
        *(Network(name, "timm", SMALL, "timm") for name in TIMM_MORE),
        *(Network(name, "timm", shape, "hybrid") for name, shape in HYBRIDS.items()),
        *(keras(name, "keras") for name in KERAS_MORE),  # the smallest first
    ]


def import_libraries(libraries: set[str]) -> dict[str, str]:
    """Import what the libraries need; returns library to what is missing."""
    missing = {}
    for library in sorted(libraries):
        try:
            if library == "keras":
                import keras  # noqa: F401
                import tensorflow  # noqa: F401
                import tf2onnx  # noqa: F401

                continue
            import onnxscript  # noqa: F401
            import torch

            if library in ("torchvision", "timm"):
                _import_torchvision(torch)
            if library == "timm":
                import timm  # noqa: F401
        except ImportError as error:
            missing[library] = f"{type(error).__name__}: {error}"
    return missing


def _import_torchvision(torch: Any) -> None:
    """A torchvision built for CUDA imports beside a PyTorch for CPUs once its operators exist."""
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(name + signature)
        _kept.append(library)
        import torchvision  # noqa: F401


_kept: list[Any] = []  # the declarations hold as long as their library


def export(network: Network, exporter: str, path: Path, built: dict[str, Any]) -> bool:
    """Write one ONNX file; ``built`` keeps the model between the exporters of a network.

    Returns:
        Whether other programs can run it too: tf2onnx may leave operators of TensorFlow.
    """
    if "model" not in built:
        built["model"] = _keras_model(network) if network.library == "keras" else _torch(network)
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        if exporter == "tf2onnx":
            from onnx2snn.frameworks import export_keras

            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "model.onnx"
                export_keras(built["model"], file)
                path.write_bytes(file.read_bytes())
            try:
                onnx.checker.check_model(str(path))
            except onnx.checker.ValidationError:
                return False
            return True
        import torch

        image = torch.from_numpy(network.images(2, 99))
        if exporter == "dynamo":
            shapes = ({0: torch.export.Dim("N")},)
            program = torch.onnx.export(
                built["model"], (image,), dynamo=True, input_names=["input"], dynamic_shapes=shapes
            )
            program.save(str(path))
            return True
        torch.onnx.export(
            built["model"], (image,), str(path), dynamo=False, opset_version=17,
            input_names=["input"], dynamic_axes={"input": {0: "N"}},
        )  # fmt: skip
    return True


def _torch(network: Network) -> Any:
    import torch

    torch.manual_seed(SEED)
    builders: dict[str, Callable[[], Any]] = {
        "torchvision": lambda: _torchvision(network.name),
        "timm": lambda: _timm(network.name),
        "own": lambda: _own(network.name),
    }
    model = builders[network.library]().eval()
    norms = [
        m for m in model.modules() if hasattr(m, "running_mean") and m.running_mean is not None
    ]
    with torch.no_grad():
        for norm in norms:
            if norm.weight is not None:
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(0, 0.2)
            norm.reset_running_stats()
            norm.momentum = None  # cumulative mean
            norm.train()
        for name, parameter in model.named_parameters():
            if name.endswith((".gamma", ".layer_scale", "skipinit_gain", "grn.weight")):
                parameter.uniform_(0.2, 0.6)
        model(torch.from_numpy(network.images(STATISTICS_IMAGES, 98)))
    return model.eval()


def _torchvision(name: str) -> Any:
    import torchvision

    if name.startswith("lraspp"):
        model = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=5
        )
        return _FirstOutput(model)
    options: dict[str, Any] = {"weights": None}
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "transform_input": True, "aux_logits": True}
    return torchvision.models.get_model(name, **options)


def _FirstOutput(model: Any) -> Any:  # noqa: N802  a module made where torch is imported
    import torch

    class FirstOutput(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return self.model(x)["out"]

    return FirstOutput()


def _timm(name: str) -> Any:
    import timm

    return timm.create_model(name, pretrained=False, exportable=True)


def _own(name: str) -> Any:
    import coverage_own

    return coverage_own.BUILDERS[name]()


def _keras_model(network: Network) -> Any:
    import keras

    keras.utils.set_random_seed(SEED)
    options = {"weights": None, "input_shape": network.shape}
    if network.name.startswith("ConvNeXt") or network.name == "VGG16":
        options["classes"] = 100
    model = getattr(keras.applications, network.name)(**options)
    generator = np.random.default_rng(SEED)
    for layer in model._flatten_layers():
        kind = type(layer).__name__
        if kind == "BatchNormalization":
            layer.momentum = 0.0  # the statistics of one batch
            if layer.scale:
                layer.gamma.assign(generator.uniform(0.5, 1.5, layer.gamma.shape))
            if layer.center:
                layer.beta.assign(generator.normal(0, 0.2, layer.beta.shape))
        elif kind == "LayerScale":
            layer.gamma.assign(generator.uniform(0.2, 0.6, layer.gamma.shape))
        elif "Dropout" in kind:
            layer.rate = 0.0
        elif kind == "StochasticDepth":
            layer.drop_path_rate = 0.0
    model(network.images(STATISTICS_IMAGES, 98), training=True)
    return model
