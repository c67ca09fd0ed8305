# SPDX-License-Identifier: MIT
"""The GPU engine without a GPU: the choice of a kernel, and the kernels on a CPU."""

import pytest
from support import build_and_run, needs_headers


def test_choice_of_kernels(tmp_path):
    sources = ["tests/engine/gpu_choice_test.cc"]
    build_and_run(sources, tmp_path / "gpu_choice_test", "-Wall", "-Werror")


@needs_headers
# Every 23rd test, of a few types: 23 divides no period of the list, so every kind is tested.
@pytest.mark.parametrize(
    ("part", "types"),
    [
        ("0/23", ["-DTF_PLR_TEST_FEW_TYPES"]),
        *(pytest.param(f"{i}/4", [], marks=pytest.mark.slow) for i in range(4)),
    ],
)
def test_kernels_on_a_cpu(tmp_path, part, types):
    """Runs the kernels on an emulated GPU with varying schedules of threads; see cuda_on_cpu/."""
    program = tmp_path / "emulated_gpu_engine_test"
    flags = ["-Og", "-w", "-Itests/engine/cuda_on_cpu", *types]
    build_and_run(["tests/engine/emulated_gpu_engine_test.cc"], program, *flags, TEST_PART=part)
