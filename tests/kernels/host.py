"""Runs the kernels on the CPU: the very text for the GPU, compiled by the host's C++ compiler."""

import ctypes
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") or shutil.which("clang++")
HALF = "__FLT16_MAX__"  # defined by compilers that have half precision
# as NVRTC is told, no product may be fused with a sum
FLAGS = (
    "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas",
)  # fmt: skip
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@cache
def reason_to_skip():
    """Why kernels cannot be compiled for the CPU here; empty if they can."""
    if COMPILER is None:
        return "neither g++ nor clang++ is installed"
    command = [COMPILER, "-x", "c++", "-dM", "-E", "-"]
    macros = subprocess.run(command, input="", capture_output=True, text=True, check=True).stdout
    return "" if HALF in macros else f"{COMPILER} has no type for half precision"


def require():
    """Skip the test where kernels cannot be compiled for the CPU."""
    if reason_to_skip():
        pytest.skip(reason_to_skip())


def build(kernel, target, *flags):
    """Compile a kernel with shim and runner around it."""
    parts = [(HERE / "shim.h").read_text(), kernel.source, f"#define KERNEL {kernel.name}"]
    text = "\n".join([*parts, (HERE / "runner.h").read_text()]).replace("#pragma once", "")
    command = [COMPILER, *FLAGS, *flags, "-x", "c++", "-", "-o", str(target)]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{kernel.name}: {result.stderr[:4000]}\n{kernel.source}"


class Host:
    """Compiles each kernel once, and launches it in this process.

    Attributes:
        grid: blocks and threads to launch with whatever is asked for, or None. A kernel must work
            on any grid.
    """

    def __init__(self, folder, grid=None):
        self.folder = folder
        self.grid = grid
        self.libraries = {}
        self.launches = 0

    def __call__(self, kernel, blocks, threads, arguments):
        if kernel not in self.libraries:
            target = self.folder / f"{kernel.name}_{len(self.libraries)}.so"
            build(kernel, target, "-shared", "-fPIC")
            self.libraries[kernel] = ctypes.CDLL(str(target))
        if self.grid:
            blocks, threads = self.grid
        values = [np.uint64(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in arguments]
        held = [np.atleast_1d(value) for value in values]
        fault = self.libraries[kernel].run_kernel(
            ctypes.c_uint(*blocks), ctypes.c_uint(*threads),
            (ctypes.c_void_p * len(held))(*(value.ctypes.data for value in held)),
            (ctypes.c_size_t * len(held))(*(value.nbytes for value in held)),
            ctypes.c_size_t(len(held)),
        )  # fmt: skip
        assert fault == 0, f"{kernel.name}: wrong size or number of arguments ({fault})"
        self.launches += 1


class Sanitized:
    """Launches each kernel in a process of its own, under the sanitizers."""

    def __init__(self, folder):
        self.folder = folder
        self.programs = {}

    def __call__(self, kernel, blocks, threads, arguments):
        if kernel not in self.programs:
            target = self.folder / f"{kernel.name}_{len(self.programs)}"
            build(kernel, target, *SANITIZERS, "-DSTANDALONE")
            self.programs[kernel] = target
        given, made = self.folder / "given", self.folder / "made"
        with given.open("wb") as file:
            file.write(struct.pack("<3Q", *blocks, *threads, len(arguments)))
            for value in arguments:
                data = value.tobytes()
                file.write(struct.pack("<2Q", isinstance(value, np.ndarray), len(data)) + data)
        command = [self.programs[kernel], given, made]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{kernel.name}: {result.stderr[:4000]}"
        data, start = made.read_bytes(), 0
        for array in (value for value in arguments if isinstance(value, np.ndarray)):
            stop = start + array.nbytes
            after = np.frombuffer(data[start:stop], array.dtype).reshape(array.shape)
            if array.flags.writeable:
                array[...] = after
            start = stop
        assert start == len(data)
