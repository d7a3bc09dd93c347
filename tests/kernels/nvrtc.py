"""Compiles the kernels for GPUs, without one: NVRTC needs neither driver nor device."""

import re
from functools import cache
from typing import NamedTuple

import pytest

ARCHITECTURES = ("sm_80", "sm_90", "sm_120")  # A100, H100 and H200, RTX 50
ADDED_BY_CUPY = "-ftz=true"


class Usage(NamedTuple):
    """What ptxas says that a kernel takes, per thread."""

    registers: int
    stack: int
    spilled: int


@cache
def reason_to_skip():
    """Why NVRTC cannot be used here; empty if it can."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:  # RuntimeError: the library is not found
        return f"cuda-bindings and nvidia-cuda-nvrtc are not installed: {str(error)[:100]}"
    return ""


def require():
    """Skip the test where NVRTC is not installed."""
    if reason_to_skip():
        pytest.skip(reason_to_skip())


def usage(kernel, architecture):
    """Compile to machine code; what a thread of the kernel takes."""
    from cuda.bindings import nvrtc

    program, log = _compiled(kernel, f"--gpu-architecture={architecture}", "--ptxas-options=-v")
    assert _checked(nvrtc.nvrtcGetCUBINSize(program)) > 0
    _checked(nvrtc.nvrtcDestroyProgram(program))

    def number(pattern):
        found = re.search(pattern, log)
        assert found, f"ptxas does not tell {pattern!r}: {log}"
        return int(found.group(1))

    stores, loads = number(r"(\d+) bytes spill stores"), number(r"(\d+) bytes spill loads")
    return Usage(
        number(r"Used (\d+) registers"), number(r"(\d+) bytes stack frame"), stores + loads
    )


def assembly(kernel, architecture):
    """PTX, the assembly of a virtual architecture."""
    from cuda.bindings import nvrtc

    program, _ = _compiled(kernel, f"--gpu-architecture={architecture}")
    text = bytearray(_checked(nvrtc.nvrtcGetPTXSize(program)))
    _checked(nvrtc.nvrtcGetPTX(program, text))
    _checked(nvrtc.nvrtcDestroyProgram(program))
    return text.decode()


def _compiled(kernel, *options):
    """The program and what the compiler says; a warning is a fault."""
    from cuda.bindings import nvrtc

    source, name = kernel.source.encode(), kernel.name.encode()
    program = _checked(nvrtc.nvrtcCreateProgram(source, name, 0, [], []))
    given = [option.encode() for option in (*kernel.options, ADDED_BY_CUPY, *options)]
    status = nvrtc.nvrtcCompileProgram(program, len(given), given)[0]
    log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
    _checked(nvrtc.nvrtcGetProgramLog(program, log))
    text = log.decode(errors="replace").strip("\0\n")
    assert int(status) == 0, text
    assert "warning" not in text, text
    return program, text


def _checked(result):
    """What a call of NVRTC returns, after its status."""
    status, *values = result
    assert int(status) == 0, status
    return values[0] if values else None
