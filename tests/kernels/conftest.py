"""Compilers that the tests of the kernels share."""

import pytest
from kernels import host as host_module


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """Launches kernels on the CPU, on a small grid: a thread takes several turns."""
    host_module.require()
    return host_module.Host(tmp_path_factory.mktemp("kernels"), grid=((2,), (3,)))
