"""Compiles the kernels for GPUs, without one: NVRTC needs neither driver nor device."""

import importlib.util
import re
from typing import NamedTuple

import pytest

ARCHITECTURES = ("sm_80", "sm_90", "sm_120")  # A100, H100 and H200, RTX 50


class Usage(NamedTuple):
    """What ptxas says that a kernel takes, per thread."""

    registers: int
    stack: int
    spilled: int


def require():
    """Skip the test where NVRTC is not installed."""
    for package in ("nvidia-cuda-nvrtc", "cuda-bindings"):
        module = {"nvidia-cuda-nvrtc": "nvidia", "cuda-bindings": "cuda"}[package]
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{package} is not installed (pip install 'onnx2snn[dev]')")


def checked(result):
    """What a call of NVRTC returns, after its status."""
    status, *values = result
    assert int(status) == 0, status
    return values[0] if values else None


def compile_for(kernel, architecture):
    """Compile to machine code; returns what the kernel takes.

    Warnings are faults here.
    """
    from cuda.bindings import nvrtc

    program = checked(
        nvrtc.nvrtcCreateProgram(kernel.source.encode(), kernel.name.encode(), 0, [], [])
    )
    options = [*kernel.options, f"--gpu-architecture={architecture}", "--ptxas-options=-v"]
    options = [option.encode() for option in options]
    status = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
    log = bytearray(checked(nvrtc.nvrtcGetProgramLogSize(program)))
    checked(nvrtc.nvrtcGetProgramLog(program, log))
    text = log.decode(errors="replace").strip("\0\n")
    assert int(status) == 0, text
    assert "warning" not in text, text
    assert checked(nvrtc.nvrtcGetCUBINSize(program)) > 0
    checked(nvrtc.nvrtcDestroyProgram(program))
    return usage(text)


def usage(log):
    """Registers, stack and spills from the log of ptxas."""

    def number(pattern):
        found = re.search(pattern, log)
        assert found, f"ptxas does not tell {pattern!r}: {log}"
        return int(found.group(1))

    stores, loads = number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes spill loads")
    return Usage(
        number(r"Used (\d+) registers"), number(r"(\d+) bytes stack frame"), stores + loads
    )
