# SPDX-License-Identifier: MIT
"""The GPU engine without a GPU: the choice of a kernel, and the kernels on a CPU."""

import os
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

ROOT = Path(__file__).resolve().parent.parent
HEADERS = tf.sysconfig.get_include()


def build_and_run(source, program, *flags, **environment):
    compiler = [os.environ.get("CXX", "g++"), "-std=c++17", *flags, "-I."]
    subprocess.run([*compiler, "-o", program, source], cwd=ROOT, check=True)
    subprocess.run([program], check=True, timeout=600, env={**os.environ, **environment})


def test_choice_of_kernels(tmp_path):
    build_and_run("tests/gpu_choice_test.cc", tmp_path / "gpu_choice_test", "-Wall", "-Werror")


@pytest.mark.skipif(
    not Path(HEADERS, "Eigen").exists(), reason="this TensorFlow came without its headers"
)
@pytest.mark.parametrize("part", ["0/2", pytest.param("1/2", marks=pytest.mark.slow)])
def test_kernels_on_a_cpu(tmp_path, part):
    """Under schedules that change: see cuda_on_cpu/."""
    flags = ["-O1", "-w", "-pthread", f"-I{HEADERS}", "-Itests/cuda_on_cpu"]
    program = tmp_path / "emulated_gpu_engine_test"
    build_and_run("tests/emulated_gpu_engine_test.cc", program, *flags, TEST_PART=part)
