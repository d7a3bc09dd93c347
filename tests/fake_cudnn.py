"""A stand-in for cuDNN's frontend: records graphs, and convolves from what it was told."""

import ctypes
from types import SimpleNamespace

import numpy as np
from convolution_cases import written_out


class UnsupportedGraphError(Exception):
    """What cuDNN raises when it has no plan."""


class Described:
    """A tensor of a graph: sizes and strides as they were told."""

    def __init__(self, dim=None, stride=None, name=""):
        self.dim, self.stride, self.name, self.is_output, self.type = dim, stride, name, False, None

    def set_output(self, is_output):
        self.is_output = is_output
        return self

    def set_data_type(self, element):
        self.type = element
        return self

    def set_dim(self, dim):
        self.dim = dim
        return self

    def set_stride(self, stride):
        self.stride = stride
        return self


class FakeGraph:
    """Records how a graph is built, and runs it on the memory that the pointers name."""

    def __init__(self, library, **types):
        self.library, self.types, self.calls, self.convolution = library, types, [], None
        library.graphs.append(self)

    def tensor(self, name, dim, stride):
        return Described(dim, stride, name)

    def conv_fprop(self, image, weight, **attributes):
        self.convolution = (image, weight, attributes, Described())
        return self.convolution[-1]

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            if name == "check_support" and self.library.refuses:
                raise UnsupportedGraphError

        return call

    def get_workspace_size(self):
        return self.library.workspace

    def execute(self, pointers, workspace, handle):
        assert handle == self.library.handle and workspace
        element = {"HALF": np.float16, "FLOAT": np.float32}[self.types["io_data_type"]]
        image, kernel, attributes, y = self.convolution
        assert y.is_output and y.type == self.types["io_data_type"]
        assert set(pointers) == {image, kernel, y}

        def memory(tensor):
            """The array that lies at an address as it was described."""
            reach = sum((n - 1) * s for n, s in zip(tensor.dim, tensor.stride, strict=True)) + 1
            item = np.dtype(element).itemsize
            raw = (ctypes.c_byte * (reach * item)).from_address(pointers[tensor])
            strides = [s * item for s in tensor.stride]
            return np.ndarray(tensor.dim, element, raw, strides=strides)

        case = {
            "group": image.dim[1] // kernel.dim[1],
            "pads": [*attributes["pre_padding"], *attributes["post_padding"]],
            "strides": attributes["stride"], "dilations": attributes["dilation"],
        }  # fmt: skip
        memory(y)[...] = written_out(case, memory(image), memory(kernel), None)[0]


def fake_cudnn(refuses=False, workspace=100):
    """A module like cudnn."""
    library = SimpleNamespace(graphs=[], refuses=refuses, workspace=workspace, handle="a handle")
    library.streams = []
    library.pygraph = lambda **types: FakeGraph(library, **types)
    library.create_handle = lambda: library.handle
    library.set_stream = lambda handle, stream: library.streams.append((handle, stream))
    library.backend_version = lambda: 91000
    library.data_type = SimpleNamespace(HALF="HALF", FLOAT="FLOAT")
    library.heur_mode = SimpleNamespace(A="A", FALLBACK="FALLBACK")
    names = ["TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION",
             "NONDETERMINISTIC", "WINOGRAD", "FFT"]  # fmt: skip
    library.numerical_note = SimpleNamespace(**{name: name for name in names})
    library.cudnnGraphNotSupportedError = UnsupportedGraphError
    return library
