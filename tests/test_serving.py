# SPDX-License-Identifier: MIT
"""examples/serving: a SavedModel run from C."""

import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_plr
from tf_plr._native import library

SOURCE = Path(__file__).parents[1] / "examples/serving/serve.c"


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    program = tmp_path_factory.mktemp("serving") / "serve"
    tensorflow = Path(tf.__file__).parent
    if not (tensorflow / "include").exists():
        pytest.skip("needs TensorFlow's headers")
    libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    command = [os.environ.get("CC", "cc"), f"-I{tensorflow}/include", SOURCE, "-o", program]
    command += [f"-L{tensorflow}", *libraries, f"-Wl,-rpath,{tensorflow}"]
    subprocess.run([*command, "-Wall", "-Wextra", "-Werror"], check=True)
    return program


def test_every_layer(serve, rng, tmp_path):
    layers = [tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN]
    model = keras.Sequential([keras.Input((None, 3), name="x")])
    for layer in layers:
        model.add(layer(4, return_sequences=True))
    model.export(tmp_path / "model", verbose=False)
    x = rng.normal(size=(2, 50, 3)).astype("float32")
    names = ["serve_x", "StatefulPartitionedCall"]
    result = subprocess.run(
        [serve, library.OPS, tmp_path / "model", *names, *map(str, x.shape)],
        input=x.tobytes(),
        capture_output=True,
    )
    assert result.returncode == 0, result.stderr.decode()
    actual = np.frombuffer(result.stdout, "float32").reshape(2, 50, 4)
    np.testing.assert_allclose(actual, model(x), atol=1e-5)


def test_a_wrong_path(serve):
    result = subprocess.run([serve, "missing.so", *["x"] * 3, "1", "1", "1"], capture_output=True)
    assert result.returncode == 1
    assert b"missing.so" in result.stderr
