# SPDX-License-Identifier: MIT
"""What several tests share."""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Several test processes share a GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import pytest
import tensorflow as tf

import tf_plr
from tf_plr.__main__ import exports_xla

# Tolerances are those of the named types; GPUs would multiply float32 matrices in fewer bits.
tf.config.experimental.enable_tensor_float_32_execution(False)

# Every way to call a function of tensors: eagerly, as a graph, as a graph that knows no shapes,
# compiled by XLA, where this TensorFlow lets others in.
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
    """Runs a file of programs/ in a fresh interpreter; an error there is an error here."""
    return _run(PROGRAMS / name, *arguments, **environment)


def run_python(program, *arguments, **environment):
    """As `run_program`, for a program of a line or two."""
    return _run("-c", program, *arguments, **environment)


def _run(*arguments, **environment):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=tempfile.gettempdir(),  # Not where tf_plr's sources lie.
        timeout=900,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def needs(*packages):
    """Skips a test without these packages. In CI, which installs them, that is a failure."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            missing = pytest.fail if os.environ.get("TF_PLR_CI") else pytest.skip
            missing(f"{package} is not installed")


ROOT = Path(__file__).resolve().parent.parent
HEADERS = tf.sysconfig.get_include()  # Eigen's among them.
needs_headers = pytest.mark.skipif(
    not Path(HEADERS, "Eigen").exists(), reason="this TensorFlow came without its headers"
)


def build_and_run(sources, program, *flags, **environment):
    """Compiles a C++ program of the root folder's sources, and runs it."""
    compiler = [os.environ.get("CXX", "g++"), "-std=c++17", *flags, "-I.", f"-I{HEADERS}"]
    subprocess.run([*compiler, "-pthread", "-o", program, *sources], cwd=ROOT, check=True)
    subprocess.run([program], check=True, timeout=600, env={**os.environ, **environment})
