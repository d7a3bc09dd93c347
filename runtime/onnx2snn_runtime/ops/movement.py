"""Operators that move elements without changing them."""

from math import prod

from onnx2snn_runtime.ops.bookkeeping import integers, number, positive_axes, positive_axis
from onnx2snn_runtime.ops.registry import Array, Call, Law, operator


@operator("Concat", Law.AFFINE)
def concatenate(call: Call, *inputs: Array) -> Array:
    """Join tensors along an axis."""
    return call.xp.concatenate(inputs, axis=int(call.attributes["axis"]))


@operator("Reshape", Law.AFFINE_FIRST)
def reshape(call: Call, x: Array, shape: Array) -> Array:
    """Same elements in another shape; 0 keeps a dimension, -1 is inferred."""
    sizes = integers(shape)
    if not call.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten", Law.AFFINE_FIRST)
def flatten(call: Call, x: Array) -> Array:
    """A matrix: the axes before ``axis`` become rows, the others columns."""
    axis = int(call.get("axis", 1))
    rows = prod(x.shape[: axis + x.ndim if axis < 0 else axis])
    return x.reshape(rows, x.size // rows if rows else prod(x.shape[axis:]))


@operator("Squeeze", Law.AFFINE_FIRST)
def squeeze(call: Call, x: Array, axes: Array | None = None) -> Array:
    """Drop axes of size one."""
    return call.xp.squeeze(x, axis=None if axes is None else tuple(integers(axes)))


@operator("Unsqueeze", Law.AFFINE_FIRST)
def unsqueeze(call: Call, x: Array, axes: Array) -> Array:
    """Insert axes of size one."""
    return call.xp.expand_dims(x, tuple(integers(axes)))


@operator("Transpose", Law.AFFINE_FIRST)
def transpose(call: Call, x: Array) -> Array:
    """Reorder the axes; reversed unless a permutation is given."""
    return call.xp.transpose(x, call.get("perm"))


@operator("Slice", Law.AFFINE_FIRST)
def cut(
    call: Call,
    x: Array,
    starts: Array,
    ends: Array,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    """A range of elements along some axes, with a step."""
    del call
    first, last = integers(starts), integers(ends)
    where = positive_axes(integers(axes) if axes is not None else range(len(first)), x.ndim)
    step = integers(steps) if steps is not None else [1] * len(first)
    index = [slice(None)] * x.ndim
    for axis, start, stop, stride in zip(where, first, last, step, strict=True):
        index[axis] = _range(start, stop, stride, x.shape[axis])
    return x[tuple(index)]


def _range(start: int, stop: int, step: int, size: int) -> slice:
    """A range whose bounds may be negative, counted from the end, or far outside."""
    low = start + size if start < 0 else start
    high = stop + size if stop < 0 else stop
    if step > 0:
        return slice(max(low, 0), max(high, 0), step)
    low = min(max(low, 0), size - 1)
    return slice(low, None if high < 0 else high, step)  # None: down to the first element


@operator("Split", Law.AFFINE_FIRST)
def split(call: Call, x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    """Cut a tensor into several along an axis, into given or equal sizes."""
    axis = positive_axis(int(call.get("axis", 0)), x.ndim)
    parts = int(call.get("num_outputs") or call.outputs)
    length = -(-x.shape[axis] // parts)
    widths = integers(sizes) if sizes is not None else [length] * parts
    result, start = [], 0
    for width in widths:
        result.append(x[(slice(None),) * axis + (slice(start, start + width),)])
        start += width
    return tuple(result)


@operator("Gather", Law.AFFINE_FIRST)
def gather(call: Call, x: Array, indices: Array) -> Array:
    """Elements at the given indices along an axis."""
    return call.xp.take(x, indices, axis=int(call.get("axis", 0)))


@operator("GatherElements", Law.AFFINE_FIRST)
def gather_elements(call: Call, x: Array, indices: Array) -> Array:
    """For every index tensor element the element of x at that index along an axis."""
    axis = positive_axis(int(call.get("axis", 0)), x.ndim)
    inside = tuple(slice(None if i == axis else size) for i, size in enumerate(indices.shape))
    wrapped = call.xp.where(indices < 0, indices + x.shape[axis], indices)
    return call.xp.take_along_axis(x[inside], wrapped, axis=axis)


@operator("GatherND", Law.AFFINE_FIRST)
def gather_many(call: Call, x: Array, indices: Array) -> Array:
    """Elements or slices of x at positions given along several axes, after ``batch_dims`` axes."""
    batch, ndim = int(call.get("batch_dims", 0)), indices.ndim - 1
    along = [
        call.xp.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(ndim)])
        for axis in range(batch)
    ]
    return x[(*along, *call.xp.moveaxis(indices, -1, 0))]


@operator("ScatterND", Law.AFFINE_FLOATS)
def scatter_many(call: Call, x: Array, indices: Array, updates: Array) -> Array:
    """A copy of x in which the elements or slices at some positions are replaced or combined."""
    result, position = x.copy(), tuple(call.xp.moveaxis(indices, -1, 0))
    reduction = call.get("reduction", "none")
    if reduction == "none":
        result[position] = updates
    elif reduction == "mul":  # CuPy scatters no products
        depth = indices.shape[-1]
        factors = updates.reshape(-1, *x.shape[depth:])
        for place, factor in zip(indices.reshape(-1, depth).tolist(), factors, strict=True):
            result[tuple(place)] *= factor
    else:
        combine = {"add": "add", "max": "maximum", "min": "minimum"}[reduction]
        getattr(call.xp, combine).at(result, position, updates)
    return result


@operator("Expand", Law.AFFINE_FIRST)
def expand(call: Call, x: Array, shape: Array) -> Array:
    """Repeat axes of size one to a larger shape."""
    sizes = integers(shape)
    ndim = max(x.ndim, len(sizes))
    own, wanted = ([1] * (ndim - len(s)) + list(s) for s in (x.shape, sizes))
    target = tuple(b if a == 1 else a for a, b in zip(own, wanted, strict=True))
    return call.xp.broadcast_to(x, target)


@operator("Tile", Law.AFFINE_FIRST)
def tile(call: Call, x: Array, repeats: Array) -> Array:
    """The tensor several times along each axis."""
    return call.xp.tile(x, tuple(integers(repeats)))


@operator("Pad", Law.AFFINE_FIRST)
def pad(
    call: Call, x: Array, pads: Array, value: Array | None = None, axes: Array | None = None
) -> Array:
    """Elements added around a tensor: a constant, the edge, its reflection, or its other side.

    Negative numbers remove elements.
    """
    where = positive_axes(integers(axes) if axes is not None else range(x.ndim), x.ndim)
    numbers = integers(pads)
    widths = [(0, 0)] * x.ndim
    for position, axis in enumerate(where):
        widths[axis] = (numbers[position], numbers[position + len(where)])
    inside = tuple(
        slice(max(0, -front), size - max(0, -back))
        for (front, back), size in zip(widths, x.shape, strict=True)
    )
    added = [(max(0, front), max(0, back)) for front, back in widths]
    mode = call.get("mode", "constant")
    if mode != "constant":
        return call.xp.pad(x[inside], added, mode=mode)
    fill = 0 if value is None or not value.size else number(value)
    return call.xp.pad(x[inside], added, mode="constant", constant_values=fill)


@operator("DepthToSpace", Law.AFFINE_FIRST)
def depth_to_space(call: Call, x: Array) -> Array:
    """Channels of x [N,C,H,W] become blocks of pixels."""
    size = int(call.attributes["blocksize"])
    images, channels, height, width = x.shape
    depth = channels // size**2
    if call.get("mode", "DCR") == "DCR":
        blocks = x.reshape(images, size, size, depth, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(images, depth, size, size, height, width).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(images, depth, height * size, width * size)


@operator("SpaceToDepth", Law.AFFINE_FIRST)
def space_to_depth(call: Call, x: Array) -> Array:
    """Blocks of pixels of x [N,C,H,W] become channels."""
    size = int(call.attributes["blocksize"])
    images, channels, height, width = x.shape
    blocks = x.reshape(images, channels, height // size, size, width // size, size)
    order = (0, 1, 3, 5, 2, 4) if call.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return blocks.transpose(order).reshape(
        images, channels * size**2, height // size, width // size
    )


@operator("Identity", Law.AFFINE_FIRST)
def identity(call: Call, x: Array) -> Array:
    """The input itself."""
    del call
    return x


@operator("Where", Law.AFFINE_FLOATS)
def where(call: Call, condition: Array, a: Array, b: Array) -> Array:
    """Elements of a where the condition holds, else of b."""
    return call.xp.where(condition, a, b)
