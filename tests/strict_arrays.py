"""A stand-in for CuPy on NumPy: as strict about where arrays lie, for tests without a GPU.

NumPy's functions refuse its arrays, its functions refuse NumPy's arrays, and it has only the
functions that are listed here. ``test_strict_arrays`` holds the list against CuPy where that is
installed.
"""

import contextlib
import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from tape import TAPE, StrictEvent


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = words("""
    abs add arange arccos arccosh arcsin arcsinh arctan arctanh argmax argmin asarray
    ascontiguousarray broadcast_to ceil clip concatenate cos cosh cumprod cumsum divide einsum empty
    empty_like equal exp exp2 expand_dims expm1 eye flip floor floor_divide fmod full full_like
    greater greater_equal isfinite isinf isnan less less_equal log log1p logical_and logical_not
    logical_or logical_xor matmul max maximum mean min minimum moveaxis multiply negative ones
    ones_like pad power prod reciprocal remainder rint sign sin sinh sqrt squeeze stack subtract sum
    take take_along_axis tan tanh tile transpose where zeros zeros_like
""")
CONVERTING = words("asarray ascontiguousarray")  # these also take what lies on the host
TYPES = words("bool_ float16 float32 float64 int8 int32 int64 uint8")
SCATTERED = words("add subtract maximum minimum")  # functions with an ``at`` in CuPy
METHODS = words("""
    all any argmax astype copy item max mean min reshape sum swapaxes tolist transpose
""")
ON_HOST = words("item tolist")  # methods that give Python numbers, as in CuPy
OPERATORS = words("add sub mul truediv floordiv mod pow matmul and or xor lt le gt ge eq ne")


class Strict:
    """An array of the stand-in, by the rules of CuPy."""

    __array_ufunc__ = None  # NumPy's functions refuse it, and its scalars leave operators to it

    def __init__(self, data: Any) -> None:
        self._data = np.asarray(data)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array; use .get()")

    def get(self) -> np.ndarray:
        TAPE.forbid("a copy to the host")
        return self._data.copy()

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self._data.__array_interface__

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            method = getattr(self._data, name)
            return TAPE.forbidden(method) if name in ON_HOST else _guarded(method)
        if name == "data":  # CuPy's pointer
            return SimpleNamespace(ptr=self._data.ctypes.data)
        if name == "T":
            return Strict(self._data.T)
        if name in ("dtype", "shape", "ndim", "size", "strides", "nbytes", "itemsize", "flags"):
            return getattr(self._data, name)
        raise AttributeError(f"an array of CuPy has no attribute {name!r}, or the tests' has not")

    def __getitem__(self, index: Any) -> Any:
        return _guarded(operator.getitem)(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        data, index, value = self._data, _inside(index), _inside(value)
        data[index] = value
        TAPE.note(lambda: data.__setitem__(index, value))

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Any:
        return (Strict(item) for item in self._data)

    def __bool__(self) -> bool:
        return TAPE.forbidden(bool)(self._data)

    def __float__(self) -> float:
        return TAPE.forbidden(float)(self._data)

    def __int__(self) -> int:
        return TAPE.forbidden(int)(self._data)

    def __neg__(self) -> "Strict":
        return _guarded(np.negative)(self)

    def __invert__(self) -> "Strict":
        return _guarded(np.invert)(self)

    __hash__ = None  # type: ignore[assignment]


def _inside(value: Any) -> Any:
    """What an argument holds; NumPy's arrays are refused, its scalars are not."""
    if isinstance(value, Strict):
        return value._data
    if isinstance(value, np.ndarray):
        raise TypeError(f"unsupported type numpy.ndarray {value.shape}")
    if isinstance(value, tuple | list):
        return type(value)(_inside(item) for item in value)
    return value


def _array(value: Any) -> Any:
    """CuPy reduces to arrays of no axes."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def _outside(value: Any) -> Any:
    return Strict(value) if isinstance(value, np.ndarray) else value


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        given = options.get("out")
        inside = {name: _inside(value) for name, value in options.items()}
        values = [_inside(value) for value in arguments]
        result = _array(function(*values, **inside))
        TAPE.note_result(function, values, inside, result)
        return given if given is not None else _outside(result)

    return call


def _applied(method: Callable[[Any], Any], other: Any) -> Any:
    """An operator with one side bound; NotImplemented stays what it is."""
    value = _inside(other)
    result = _array(method(value))
    if result is NotImplemented:
        return result
    TAPE.note_result(method, [value], {}, result)
    return _outside(result)


def _binary(name: str) -> None:
    def method(self: Strict, other: Any) -> Any:
        return _applied(getattr(self._data, f"__{name}__"), other)

    def reflected(self: Strict, other: Any) -> Any:
        return _applied(getattr(np.asarray(self._data), f"__r{name}__"), other)

    def in_place(self: Strict, other: Any) -> Strict:
        _applied(getattr(self._data, f"__i{name}__"), other)
        return self

    setattr(Strict, f"__{name}__", method)
    if hasattr(np.ndarray, f"__r{name}__"):
        setattr(Strict, f"__r{name}__", reflected)
        setattr(Strict, f"__i{name}__", in_place)


for _name in OPERATORS:
    _binary(_name)


class _Scattering:
    """A function with ``at``, for those that CuPy can scatter."""

    def __init__(self, name: str) -> None:
        self.function = getattr(np, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return _guarded(self.function)(*arguments, **options)

    def at(self, array: Strict, index: Any, values: Any) -> None:
        held = [_inside(value) for value in (array, index, values)]
        self.function.at(*held)
        TAPE.note(lambda: self.function.at(*held))


class StrictModule:
    """The array module; ``used`` collects names and options of what was called."""

    ndarray = Strict
    inf = np.inf
    newaxis = None

    def __init__(self) -> None:
        self.used: set[tuple[str, tuple[str, ...]]] = set()

    def __getattr__(self, name: str) -> Any:
        if name in TYPES:
            return getattr(np, name)
        if name not in FUNCTIONS:
            raise AttributeError(f"CuPy has no {name!r}, or strict_arrays.py does not list it")
        if name in SCATTERED:
            function: Any = _Scattering(name)
        elif name in CONVERTING:
            function = self._convert(name)
        else:
            function = _guarded(getattr(np, name))
        if isinstance(function, _Scattering):
            self.used.add((name, ()))
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            self.used.add((name, tuple(sorted(options))))
            return function(*arguments, **options)

        return call

    @staticmethod
    def _convert(name: str) -> Callable[..., Any]:
        """From the host it copies, as to a device."""

        def convert(value: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(value, Strict):
                return _guarded(getattr(np, name))(value, *arguments, **options)
            TAPE.forbid("a copy from the host")
            return Strict(np.array(value, *arguments, **options))

        return convert


class StrictCompileError(Exception):
    """As CuPy's CompileException, no error that a caller expects."""


class StrictDevice:
    """A device of the backend ``cupy`` that is made of NumPy.

    Args:
        limit: bytes that one array may take; a larger one raises ``MemoryError``.
        launch: runs kernels on arrays of NumPy.

    Attributes:
        launched: kernels with the addresses that they were given.
    """

    failures = (StrictCompileError,)

    def __init__(self, limit: int | None = None, launch: Callable[..., None] | None = None) -> None:
        self.xp: Any = StrictModule() if limit is None else LimitedModule(limit)
        self.released = 0
        self.copies = 0
        self.events: list[str] = []
        self.launched: list[tuple[Any, ...]] = []
        self.start = launch
        self.launch = self._launch if launch else None

    def _launch(self, kernel: Any, grid: Any, block: Any, arguments: Any) -> None:
        held = [_inside(value) for value in arguments]
        addresses = [value.ctypes.data for value in held if isinstance(value, np.ndarray)]

        def run() -> None:
            self.launched.append((kernel.name, *addresses))
            self.start(kernel, grid, block, held)

        run()
        TAPE.note(run)

    def to_host(self, array: Strict) -> np.ndarray:
        return array.get()

    def free_bytes(self) -> int:
        return 2**30

    def release(self) -> None:
        self.released += 1

    def pinned(self, size: int) -> np.ndarray:
        return np.empty(size, np.float32)

    def copy_beside(self, target: Any, source: np.ndarray) -> Any:
        """The copy is done late: when the host or the device waits for it."""
        event = StrictEvent(lambda: np.copyto(_inside(target), source), self.events, self.copies)
        self.copies += 1
        self.events.append(f"copy {event.number} begins")
        return event

    def wait_for(self, event: Any) -> None:
        event.finish()
        self.events.append(f"the device waits for copy {event.number}")

    def product(self, compute: str) -> Callable[..., Any]:
        del compute
        return self.xp.matmul

    def stream(self) -> int:
        return 0

    def capture(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        steps, made = TAPE.record(work)
        return lambda: TAPE.play(steps), made


class LimitedModule(StrictModule):
    """A device with little memory: making a large array fails, as an allocator does."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        function = super().__getattr__(name)
        if name not in FUNCTIONS or isinstance(function, _Scattering):
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            with contextlib.suppress(AttributeError):
                if name != "broadcast_to" and result.nbytes > self.limit:
                    self.failures += 1
                    raise MemoryError(f"cannot allocate {result.nbytes} bytes")
            return result

        return call


class HostDevice(StrictDevice):
    """A device of NumPy itself, with kernels that are started by ``launch``."""

    def __init__(self, launch: Callable[..., None]) -> None:
        super().__init__()
        self.xp = np
        self.launch = launch

    def to_host(self, array: np.ndarray) -> np.ndarray:
        return array.copy()
