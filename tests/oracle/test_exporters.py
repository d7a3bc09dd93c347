"""Live PyTorch and Keras networks, and their files."""

import importlib
import zipfile

import numpy as np
import pytest

import onnx2snn
from onnx2snn import frameworks as exporters
from onnx2snn.cli import main
from onnx2snn_runtime.errors import ModelError, UsageError


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def need(*names):
    modules = [pytest.importorskip(name, reason=f"{name} is not installed") for name in names]
    return modules[0]


def torch_network(torch):
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def pictures(count, seed, channels_last=False):
    shape = (count, 8, 8, 3) if channels_last else (count, 3, 8, 8)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_torch_module_is_converted_and_left_as_it_was():
    torch = need("torch", "onnxscript")
    module = torch_network(torch).train()
    module[1].eval()
    spiking = onnx2snn.from_torch(
        module, torch.zeros(1, 3, 8, 8), calibration=pictures(32, 1), recipe="refine"
    )
    assert [layer.op for layer in spiking.layers if layer.role == "neuron"] == ["Swish", "Gelu"]
    assert module.training
    assert not module[1].training
    images = pictures(5, 2)
    expected = module.eval()(torch.from_numpy(images)).detach().numpy()
    assert relative(spiking.network().run(images, timesteps=16).logits, expected) < 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_torch_module_is_the_module():
    torch = need("torch", "onnxscript")
    module = torch.compile(torch_network(torch))
    spiking = onnx2snn.from_torch(module, torch.zeros(1, 3, 8, 8), calibration=pictures(32, 1))
    assert [layer.op for layer in spiking.layers if layer.role == "neuron"] == ["Swish", "Gelu"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_dynamo_cannot_export_the_legacy_exporter_does(monkeypatch):
    torch = need("torch", "onnxscript")
    export = torch.onnx.export

    def broken(*arguments, dynamo, **options):
        if dynamo:
            raise RuntimeError("no such operator")
        return export(*arguments, dynamo=dynamo, **options)

    monkeypatch.setattr(torch.onnx, "export", broken)
    spiking = onnx2snn.from_torch(
        torch_network(torch), (torch.zeros(2, 3, 8, 8),), calibration=pictures(8, 1)
    )
    assert spiking.check.passed


def test_what_no_exporter_takes_is_told():
    torch = need("torch", "onnxscript")

    class Stubborn(torch.nn.Module):
        def forward(self, x):
            return x if float(x.sum()) > float(len(str(x))) else complex(1, 2)

    with pytest.raises(ModelError, match="dynamo exporter") as told:
        onnx2snn.from_torch(Stubborn(), torch.zeros(2, 3))
    assert len(told.value.findings) == 2
    with pytest.raises(UsageError, match="example_inputs"):
        onnx2snn.from_torch(Stubborn(), np.zeros((2, 3)))
    with pytest.raises(UsageError, match=r"torch\.nn\.Module"):
        onnx2snn.from_torch(len, torch.zeros(2, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_pt2_file_is_converted(tmp_path):
    torch = need("torch", "onnxscript")
    module, example = torch_network(torch).eval(), torch.zeros(2, 3, 8, 8)
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    np.save(tmp_path / "images.npy", pictures(8, 1))
    command = [str(tmp_path / "net.pt2"), "--calibration", str(tmp_path / "images.npy"), "-q"]
    assert main(command) == 0
    assert (tmp_path / "net.snn.onnx").exists()


def neurons_of_keras(model):
    """Operators that spike, of a network that answers as Keras does."""
    calibration, images = pictures(32, 1, channels_last=True), pictures(5, 2, channels_last=True)
    spiking = onnx2snn.from_keras(model, calibration=calibration, recipe="refine")
    expected = np.asarray(model(images))
    assert relative(spiking.network().run(images, timesteps=16).logits, expected) < 1e-3
    return [layer.op for layer in spiking.layers if layer.role == "neuron"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_keras_model_and_its_files_are_converted(tmp_path):
    keras = need("keras", "tensorflow", "tf2onnx")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    normalise = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 1.5])
    model = keras.Sequential([
        layers.Input((8, 8, 3)), normalise, layers.Conv2D(6, 3, padding="same", use_bias=False),
        layers.BatchNormalization(), layers.Activation("swish"), layers.MaxPooling2D(2),
        layers.Conv2D(8, 3, groups=2), layers.PReLU(shared_axes=[1, 2]),
        layers.GlobalAveragePooling2D(), layers.Dense(4),
    ])  # fmt: skip
    assert neurons_of_keras(model) == ["Swish", "PRelu"]
    np.save(tmp_path / "images.npy", pictures(32, 1, channels_last=True))
    for name in ("net.keras", "net.h5"):
        model.save(tmp_path / name)
        command = [str(tmp_path / name), "--calibration", str(tmp_path / "images.npy"), "-q"]
        assert main([*command, "-o", str(tmp_path / f"{name}.snn.onnx")]) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_gelu_of_keras():
    """tf2onnx leaves an operator of TensorFlow in it, Erfc, between Transposes."""
    keras = need("keras", "tensorflow", "tf2onnx")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([
        layers.Input((8, 8, 3)), layers.Conv2D(6, 3, activation="gelu"),
        layers.LayerNormalization(), layers.Conv2D(8, 3, activation="gelu"),
        layers.GlobalAveragePooling2D(), layers.Dense(4),
    ])  # fmt: skip
    assert neurons_of_keras(model) == ["Gelu", "Gelu"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_torch_example_with_channels_last():
    """The exporter writes as_strided then, as indices computed from the batch."""
    torch = need("torch", "onnxscript")
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).eval()
    example = torch.zeros(2, 8, 8, 3).permute(0, 3, 1, 2)
    calibration, images = pictures(32, 1), pictures(5, 2)
    spiking = onnx2snn.from_torch(module, example, calibration=calibration, recipe="refine")
    expected = module(torch.from_numpy(images)).detach().numpy()
    assert relative(spiking.network().run(images, timesteps=16).logits, expected) < 1e-3
    assert not {"Gather", "Range", "Shape"} & {node.op_type for node in spiking.ann.graph.node}
    assert onnx2snn.evaluate(spiking, images, timesteps=2)["steps"][0]["synops_per_image"] > 0


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("net.keras", "zip", "load_model('net.keras').export('model.onnx', format='onnx')"),
        ("net.h5", b"\x89HDF\r\n\x1a\n", "load_model('net.h5').export('model.onnx'"),
        ("net.pt2", "zip", "torch.onnx.export(torch.export.load('net.pt2'), dynamo=True)"),
    ],
)
def test_without_the_framework_the_command_is_told(
    tmp_path, capsys, monkeypatch, name, content, command
):
    path = tmp_path / name
    if content == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", "{}")
    else:
        path.write_bytes(content)
    real = importlib.import_module

    def absent(wanted, *arguments):
        if wanted in ("torch", "keras"):
            raise ImportError(wanted)
        return real(wanted, *arguments)

    monkeypatch.setattr(exporters.importlib, "import_module", absent)
    assert main([str(path)]) == 3
    assert command in capsys.readouterr().err.replace("\n", " ")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_choice_by_the_data_that_is_traced_is_told():
    torch = need("torch", "onnxscript")

    class Choosing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, x):
            y = self.conv(x).relu()
            return y.mean((2, 3)) if x.sum() > 0 else -y.mean((2, 3))

    with pytest.warns(UserWarning, match=r"took for constant .*test_exporters\.py"):
        onnx2snn.from_torch(Choosing(), torch.ones(2, 3, 8, 8), calibration=pictures(40, 1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_inputs_have_the_names_of_the_arguments():
    torch = need("torch", "onnxscript")

    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.dense = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2)

        def forward(self, left, right):
            return self.dense((self.conv(left).relu() - self.conv(right).relu()).mean((2, 3)))

    images = {"left": pictures(40, 1), "right": pictures(40, 2)}
    examples = tuple(torch.zeros(2, 3, 8, 8) for _ in range(2))
    spiking = onnx2snn.from_torch(Pair(), examples, calibration=images)
    assert list(spiking.network().input_shapes) == ["left", "right"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", [list, dict])
def test_keras_models_with_several_inputs(form):
    keras = need("keras", "tensorflow", "tf2onnx")
    picture, vector = keras.Input((8, 8, 3), name="picture"), keras.Input((4,), name="vector")
    x = keras.layers.Conv2D(4, 3, activation="relu")(picture)
    x = keras.layers.Concatenate()([keras.layers.Flatten()(x), vector])
    x = keras.layers.Dense(3)(keras.layers.Dense(8, activation="relu")(x))
    inputs = [picture, vector]
    if form is dict:
        inputs = {"picture": picture, "vector": vector}
    generator = np.random.default_rng(0)
    data = {
        "picture": generator.normal(size=(40, 8, 8, 3)).astype(np.float32),
        "vector": generator.normal(size=(40, 4)).astype(np.float32),
    }
    model = keras.Model(inputs, x)
    spiking = onnx2snn.from_keras(model, calibration=data)
    expected = model.predict(data if form is dict else list(data.values()), verbose=0)
    found = spiking.network().run(data, timesteps=64).logits
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
