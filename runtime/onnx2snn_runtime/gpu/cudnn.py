"""Convolutions by cuDNN through ``nvidia-cudnn-frontend``, on raw pointers.

In fp32 tensors are handed over as they lie, channels first. In tf32 and fp16 they lie channels
last, as tensor cores want them: the results are views of such memory, neurons and poolings keep to
it (``kernels.order``), and what comes otherwise is copied. (Of channels first cuDNN would make
transposed copies in a workspace of gigabytes, and give 1×1 convolutions plans without tensor
cores.)
"""

import importlib
import importlib.util
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from onnx2snn_runtime.gpu.columns import ColumnsEngine
from onnx2snn_runtime.gpu.device import Device
from onnx2snn_runtime.gpu.linear import Convolve, LinearEngine
from onnx2snn_runtime.kernels.signals import address
from onnx2snn_runtime.ops import Array, Call
from onnx2snn_runtime.ops.windows import Windows

MOST_ELEMENTS = 2**31 - 1  # of a tensor: not every plan counts further
MOST_WORKSPACE = 2**28  # bytes
ALIGNMENT = 16  # bytes, of the memory that plans are chosen for
PLAIN_NOTES = ("NONDETERMINISTIC", "WINOGRAD", "FFT")  # reproducible, and rounded as a sum is
EXACT_NOTES = ("TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION")


class Geometry(NamedTuple):
    """What a plan is made for; sizes are channels first, with two spatial axes or more."""

    x: tuple[int, ...]
    weight: tuple[int, ...]
    y: tuple[int, ...]
    windows: Windows


class Plan(NamedTuple):
    """A graph of one convolution, ready to run."""

    graph: Any
    x: Any
    weight: Any
    y: Any
    workspace: int


def geometry_of(x: Array, weight: Array, windows: Windows) -> Geometry:
    """Geometry of a convolution; one spatial axis becomes two, the first of size one."""
    x_sizes, weight_sizes = tuple(x.shape), tuple(weight.shape)
    y_sizes = (x_sizes[0], weight_sizes[0], *windows.outputs)
    if x.ndim > 3:
        return Geometry(x_sizes, weight_sizes, y_sizes, windows)
    flat = Windows(
        (1, *windows.kernel), (1, *windows.strides), (1, *windows.dilations),
        (0, *windows.before), (0, *windows.after), (1, *windows.outputs),
    )  # fmt: skip
    return Geometry(_flat(x_sizes), _flat(weight_sizes), _flat(y_sizes), flat)


def _flat(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """[N,C,W] as [N,C,1,W]."""
    return (*sizes[:2], 1, *sizes[2:])


def strides_of(sizes: tuple[int, ...], channels_last: bool) -> list[int]:
    """Distance of neighbours along each axis of [N,C,*], in elements."""
    lying = [0, *range(2, len(sizes)), 1] if channels_last else range(len(sizes))
    order = list(lying)
    strides = [0] * len(sizes)
    for place, axis in enumerate(order):
        strides[axis] = prod(sizes[inner] for inner in order[place + 1 :])
    return strides


class CudnnEngine(LinearEngine):
    """One plan for each geometry, kept; one workspace for all; what has no plan goes by columns.

    Attributes:
        declined: geometries that cuDNN has no plan for, and what it says about them.
    """

    name = "cudnn"

    def __init__(self, device: Device, compute: str, library: Any = None) -> None:
        super().__init__(device, compute)
        self.library = library or importlib.import_module("cudnn")
        self.failures = (self.library.cudnnGraphNotSupportedError,)
        self.handle = self.library.create_handle()
        self.plans: dict[Geometry, Plan | None] = {}
        self.declined: dict[Geometry, str] = {}
        self.workspace = self.xp.empty(1, dtype=np.uint8)
        self.outgrown: list[Array] = []  # workspaces that captured launches may still write
        self.otherwise = ColumnsEngine(device, compute)

    @classmethod
    def unavailable(cls) -> str:
        """Needs the package and the library; the package alone can be imported."""
        if importlib.util.find_spec("cudnn") is None:
            return "nvidia-cudnn-frontend is not installed (pip install 'onnx2snn[gpu]')"
        try:
            importlib.import_module("cudnn").backend_version()
        except Exception as error:  # the package's own types cannot be named without it
            return f"cuDNN cannot be loaded: {error} (pip install 'onnx2snn[gpu]')"
        return ""

    @property
    def description(self) -> str:
        """With the version of the library."""
        return f"cuDNN {self.library.backend_version()}"

    @property
    def channels_last(self) -> bool:
        """Whether tensors lie as tensor cores want them."""
        return self.compute in ("tf32", "fp16")

    @property
    def element(self) -> Any:
        """Type of tensors."""
        return np.float16 if self.compute == "fp16" else np.float32

    def convolution(self, weight: Array, groups: int) -> Convolve:
        """By a plan for each size of x."""
        otherwise = self.otherwise.convolution(weight, groups)
        factors, finish = self.prepare(weight)
        lying = self.lay(factors)

        def convolve(call: Call, x: Array, windows: Windows) -> Array:
            row = max(prod(x.shape[1:]), len(weight) * prod(windows.outputs), 1)
            most = max(1, MOST_ELEMENTS // row)
            if len(x) > most:
                parts = (x[i : i + most] for i in range(0, len(x), most))
                return self.xp.concatenate([convolve(call, part, windows) for part in parts])
            geometry = geometry_of(x, weight, windows)
            if geometry not in self.plans:
                self.plans[geometry] = self.plan(geometry)
            plan = self.plans[geometry]
            if plan is None:
                return otherwise(call, x, windows)
            y = self.execute(plan, self.lay(x), lying, geometry.y, finish)
            return y.reshape(x.shape[0], weight.shape[0], *windows.outputs)

        return convolve

    def lay(self, array: Array) -> Array:
        """The memory that cuDNN reads of a tensor [N,C,*], which may be a part of another."""
        if self.channels_last:
            array = self.xp.moveaxis(array, 1, -1)
        lying = array.astype(self.element, order="C", copy=False)
        return lying if address(lying) % ALIGNMENT == 0 else lying.copy()

    def execute(
        self,
        plan: Plan,
        x: Array,
        weight: Array,
        sizes: tuple[int, ...],
        finish: Callable[[Array], Array],
    ) -> Array:
        """Run a plan and finish its sums; the result shows as [N,M,*] however it lies."""
        if self.workspace.nbytes < plan.workspace:
            self.outgrown.append(self.workspace)
            self.workspace = self.xp.empty(plan.workspace, dtype=np.uint8)
        lying = (sizes[0], *sizes[2:], sizes[1]) if self.channels_last else sizes
        y = self.xp.empty(lying, dtype=self.element)
        self.library.set_stream(handle=self.handle, stream=self.device.stream())
        pointers = {plan.x: x.data.ptr, plan.weight: weight.data.ptr, plan.y: y.data.ptr}
        plan.graph.execute(pointers, self.workspace.data.ptr, handle=self.handle)
        y = finish(y)  # before the axes are moved: CuPy's results lie in C order
        return self.xp.moveaxis(y, -1, 1) if self.channels_last else y

    def plan(self, geometry: Geometry) -> Plan | None:
        """The first plan that cuDNN proposes and can build, or None."""
        library, last = self.library, self.channels_last
        kinds = library.data_type
        element = kinds.HALF if self.element is np.float16 else kinds.FLOAT
        graph = library.pygraph(
            io_data_type=element,
            intermediate_data_type=library.data_type.FLOAT,
            compute_data_type=library.data_type.FLOAT,
            handle=self.handle,
        )
        x, weight = (
            graph.tensor(name=name, dim=list(sizes), stride=strides_of(sizes, last))
            for name, sizes in (("x", geometry.x), ("weight", geometry.weight))
        )
        y = graph.conv_fprop(
            x,
            weight,
            pre_padding=list(geometry.windows.before),
            post_padding=list(geometry.windows.after),
            stride=list(geometry.windows.strides),
            dilation=list(geometry.windows.dilations),
        )
        y.set_output(True).set_data_type(element)
        y.set_dim(list(geometry.y)).set_stride(strides_of(geometry.y, last))
        names = PLAIN_NOTES + (EXACT_NOTES if self.compute == "fp32" else ())
        try:
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([library.heur_mode.A, library.heur_mode.FALLBACK])
            graph.deselect_numeric_notes([getattr(library.numerical_note, n) for n in names])
            graph.deselect_workspace_greater_than(MOST_WORKSPACE)
            graph.check_support()
            graph.build_plans()
        except (library.cudnnGraphNotSupportedError, RuntimeError) as problem:
            self.declined[geometry] = str(problem) or "no plan"
            return None
        return Plan(graph, x, weight, y, max(1, int(graph.get_workspace_size())))
