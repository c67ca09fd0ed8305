# SPDX-License-Identifier: MIT
"""Helpers that several tests share."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Several test processes share a GPU, so none may reserve all of its memory.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import pytest
import tensorflow as tf

import tf_plr
from tf_plr.__main__ import exports_xla

# Tolerances assume full float32: by default, GPUs multiply float32 matrices in TensorFloat-32.
tf.config.experimental.enable_tensor_float_32_execution(False)

# Every way to call a function of tensors: eagerly, as a graph, as a graph that knows ranks but no
# sizes, and compiled by XLA if this TensorFlow exports the XLA symbols that other libraries need.
XLA = exports_xla()
MODES = ("eager", "function", "unknown_shapes", *(["xla"] if XLA else []))


def call(function, arguments, mode):
    """Calls function(*arguments) in a mode; an argument may be None."""
    if mode == "eager":
        return function(*arguments)
    given = [a for a in arguments if a is not None]

    def with_nones(*tensors):
        tensors = iter(tensors)
        return function(*[None if a is None else next(tensors) for a in arguments])

    dynamic = mode == "unknown_shapes"
    signature = [tf.TensorSpec([None] * a.ndim if dynamic else a.shape, a.dtype) for a in given]
    return tf.function(with_nones, input_signature=signature, jit_compile=mode == "xla")(*given)


LAYERS = [tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN]


PROGRAMS = Path(__file__).with_name("programs")


def run_program(name, *arguments, **environment):
    """Runs a file of programs/ in a new process. Returns its output; fails if the program fails."""
    return _run(PROGRAMS / name, *arguments, **environment)


def run_python(program, *arguments, **environment):
    """As `run_program`, for the text of a short program."""
    return _run("-c", program, *arguments, **environment)


def _run(*arguments, **environment):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=tempfile.gettempdir(),  # So that tf_plr is not imported from the sources.
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def needs(*packages):
    """Skips the test if a package is missing. Fails in CI, which must install them all."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            missing = pytest.fail if os.environ.get("TF_PLR_CI") else pytest.skip
            missing(f"{package} is not installed")


ROOT = Path(__file__).resolve().parent.parent
HEADERS = tf.sysconfig.get_include()  # Includes Eigen's headers.
needs_headers = pytest.mark.skipif(
    not Path(HEADERS, "Eigen").exists(), reason="this TensorFlow came without its headers"
)


def build_and_run(sources, program, *flags, **environment):
    """Compiles C++ sources, given relative to the root folder, and runs the program."""
    compiler = [os.environ.get("CXX", "g++"), "-std=c++17", *flags, "-I.", f"-I{HEADERS}"]
    subprocess.run([*compiler, "-pthread", "-o", program, *sources], cwd=ROOT, check=True)
    subprocess.run([program], check=True, timeout=600, env={**os.environ, **environment})
