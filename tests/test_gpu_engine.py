# SPDX-License-Identifier: MIT
"""The GPU engine without a GPU: the choice of a kernel, and the kernels on a CPU."""

import pytest
from conftest import build_and_run, needs_headers


def test_choice_of_kernels(tmp_path):
    build_and_run(["tests/gpu_choice_test.cc"], tmp_path / "gpu_choice_test", "-Wall", "-Werror")


@needs_headers
# Of tests that come in twelves and thirteens, every eleventh is of every kind.
@pytest.mark.parametrize(
    "part", ["0/11", *(pytest.param(f"{i}/11", marks=pytest.mark.slow) for i in range(1, 11))]
)
def test_kernels_on_a_cpu(tmp_path, part):
    """Under schedules that change: see cuda_on_cpu/."""
    program = tmp_path / "emulated_gpu_engine_test"
    flags = ["-O1", "-w", "-Itests/cuda_on_cpu"]
    build_and_run(["tests/emulated_gpu_engine_test.cc"], program, *flags, TEST_PART=part)
