"""The engine that needs CuPy only: windows copied into columns, and cuBLAS."""

import numpy as np

from onnx2snn_runtime.gpu.linear import Convolve, LinearEngine
from onnx2snn_runtime.ops import Array, Call
from onnx2snn_runtime.ops.convolution import by_columns, depthwise
from onnx2snn_runtime.ops.windows import Windows, padded

CACHED_COLUMNS = 24 * 2**20  # bytes: about half of the L2 cache of a large card


class ColumnsEngine(LinearEngine):
    """im2col in blocks of images that stay in the L2 cache, one batched product for each."""

    name = "columns"

    @classmethod
    def unavailable(cls) -> str:
        """It works wherever CuPy does."""
        return ""

    @property
    def description(self) -> str:
        """What it does."""
        return "columns and cuBLAS"

    def convolution(self, weight: Array, groups: int) -> Convolve:
        """By columns; depthwise by a sum over the taps, always in fp32."""
        xp = self.xp
        if weight.shape[1] == 1 and groups > 1:
            return self.depthwise(weight)
        if self.compute != "fp16":
            return lambda call, x, windows: by_columns(
                xp, padded(call, x, windows, 0), weight, windows, groups,
                self.product, CACHED_COLUMNS,
            )  # fmt: skip
        half, finish = self.prepare(weight)

        def convolve(call: Call, x: Array, windows: Windows) -> Array:
            source = padded(call, x.astype(np.float16, copy=False), windows, 0)
            result = by_columns(
                xp, source, half, windows, groups, xp.matmul, CACHED_COLUMNS
            )  # cuBLAS adds up in fp32 and rounds the sums to fp16
            return finish(result)

        return convolve

    def depthwise(self, weight: Array) -> Convolve:
        """Summed up in float32, of whatever type the weights are."""
        whole = weight.astype(np.float32, copy=False)

        def convolve(call: Call, x: Array, windows: Windows) -> Array:
            source = padded(call, x.astype(np.float32, copy=False), windows, 0)
            return depthwise(self.xp, source, whole, windows).astype(weight.dtype, copy=False)

        return convolve
