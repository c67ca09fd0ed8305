# SPDX-License-Identifier: MIT
import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Several test processes share a GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import keras
import numpy as np
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


def pytest_collection_modifyitems(items):
    for item in items if not XLA else []:
        if "xla" in item.nodeid.lower() or "jit_compile" in inspect.getsource(item.function):
            item.add_marker(pytest.mark.skip(reason="this TensorFlow has no XLA for other ops"))


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


@pytest.fixture(params=LAYERS)
def layer(request):
    return request.param


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def run_python(program, *arguments, **environment):
    """Runs a program in a fresh interpreter; an error there is an error here."""
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
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


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
