# SPDX-License-Identifier: MIT
"""The GPU engine's kernels on a CPU, under schedules that change: see cuda_on_cpu/."""

import os
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

ROOT = Path(__file__).resolve().parent.parent
HEADERS = tf.sysconfig.get_include()


@pytest.mark.skipif(
    not Path(HEADERS, "Eigen").exists(), reason="this TensorFlow came without its headers"
)
def test_kernels_on_a_cpu(tmp_path):
    program = tmp_path / "emulated_gpu_engine_test"
    flags = ["-std=c++17", "-O2", "-w", "-pthread", "-Itests/cuda_on_cpu", "-I.", f"-I{HEADERS}"]
    source = "tests/emulated_gpu_engine_test.cc"
    subprocess.run(
        [os.environ.get("CXX", "g++"), *flags, "-o", program, source], cwd=ROOT, check=True
    )
    subprocess.run([program], check=True, timeout=600)
