"""``--compute`` on the command line."""

import pytest

from onnx2snn.cli import main
from onnx2snn_runtime.backends import backend_classes


@pytest.fixture(scope="module")
def files(embedded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compute")
    target = folder / "model.snn.onnx"
    options = ["--calibration", str(embedded.calibration), "--calibration-samples", "16",
               "--preprocess", "unit", "-o", str(target)]  # fmt: skip
    assert main([str(embedded.model), *options]) == 0
    return str(target), str(embedded.test)


@pytest.mark.parametrize("command", ["run", "eval"])
def test_other_backends_refuse_it(files, command, capsys):
    few = ["--limit", "4", "--timesteps", "1"] if command == "eval" else ["-T", "1"]
    options = [*few, "--backend", "numpy", "--compute", "fp16"]
    assert main([command, *files, *options]) == 2
    message = capsys.readouterr().err
    assert "backend numpy (asked for) computes in fp32, not in 'fp16'" in message
    assert "--compute fp16 needs --backend cupy" in message


def test_an_unknown_arithmetic(files, capsys):
    assert main(["run", *files, "-T", "1", "--backend", "numpy", "--compute", "fp3"]) == 2
    assert "not in 'fp3'" in capsys.readouterr().err


def test_the_backend_without_a_device(files, capsys):
    if not backend_classes()["cupy"].unavailable():
        pytest.skip("there is a device here")
    assert main(["run", *files, "-T", "1", "--backend", "cupy", "--compute", "tf32"]) == 7
    assert "backend cupy cannot run here: CuPy" in capsys.readouterr().err
