# SPDX-License-Identifier: MIT
"""The recurrence by `_portable.so`, where the native library is of another TensorFlow.

Here it is, in a copy, said to be of another one; the other tests are run once more on that.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tensorflow as tf
from conftest import run_python

from tf_plr import _library, portable

GPUS = tf.config.list_physical_devices("GPU")
GPU_PATHS = (
    "rows_cluster-auto-float32", "rows_look_back_many_segments-auto-complex64",
    "rows_streamed-serial-float32", "short_rows_many_tiles-parallel-bfloat16",
)  # fmt: skip
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The environment in which a process imports that copy."""
    if GPUS and not _library.information(_library.PORTABLE)["cuda"]:
        pytest.skip("the portable library was built without GPU code")
    folder = tmp_path_factory.mktemp("elsewhere")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_library.PATH.parent, folder / "tf_plr", ignore=ignored)
    description = folder / "tf_plr" / "_native.json"
    description.write_text(json.dumps({**_library.information(), "tensorflow": "9.8.7"}))
    path = [str(folder), str(TESTS), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path)}


@pytest.mark.parametrize(
    ("tests", "but"),
    [
        (
            [
                "recurrence.py::test_every_dtype_and_mode",
                "gradients.py::test_third_order_by_finite_differences[auto]",
                "gradients.py::test_first_and_second_order_by_finite_differences[serial-1-complex128]",
                *(
                    f"layers.py::test_algorithms_and_modes[{mode}-ls_lstm-parallel]"
                    for mode in ("eager", "unknown_shapes", "xla")
                ),
                "models.py::test_fit_learns[GILR-functional]",
                *(f"gpu.py::test_every_path[{path}]" for path in GPU_PATHS if GPUS),
            ],
            "-float16 or every_dtype_and_mode and not parallel",
        ),
        *(
            pytest.param(["gpu.py::test_every_path"], "nothing", marks=pytest.mark.slow)
            for _ in GPUS[:1]
        ),
        # All but what needs the rank, or is about the native op.
        pytest.param(["recurrence.py"], "counts_from_the_first", marks=pytest.mark.slow),
        pytest.param(["gradients.py"], "unknown_rank or twice", marks=pytest.mark.slow),
        *(
            pytest.param([f"{name}.py"], "nothing", marks=pytest.mark.slow)
            for name in ("layers", "models", "own_layers")
        ),
    ],
)
def test_what_the_native_library_passes(elsewhere, tests, but):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"not ({but})"]
    done = subprocess.run(
        [*command, *(f"{TESTS}/test_{test}" for test in tests)],
        cwd=tempfile.gettempdir(),  # Not where tf_plr's sources lie.
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, **elsewhere},
    )
    assert "tf_plr is slower" in done.stdout
    assert done.returncode == 0, done.stdout[-5000:]


def test_it_says_so_and_what_it_has_not(elsewhere, tmp_path):
    run_python(
        """
import sys, pytest, tensorflow as tf
with pytest.warns(RuntimeWarning, match=r"built for TensorFlow 9\\.8\\.7, .* tf_plr is slower"):
    import tf_plr
assert not tf_plr.is_fused()
with pytest.raises(ImportError, match=r"built for TensorFlow 9\\.8\\.7, "):
    tf_plr.load_library()
with pytest.raises(ValueError, match="must have a known rank"):
    tf.function(tf_plr.linear_recurrence, input_signature=[tf.TensorSpec(None)] * 2)(
        tf.ones([2]), tf.ones([2])
    )
# Shapes that only the running graph knows: as many elements, or fewer.
for shapes, message in (
    (([2, 3, 4], [2, 4, 3], [2, 4]), "impulses .* of decays, .2,3,4., but has shape .2,4,3."),
    (([3, 1], [2, 1], [1]), "impulses must have the shape of decays, .3,1., but .* .2,1."),
    (([2, 1, 3], [2, 1, 3], [3, 2]), "initial_state .* decays without axis, .2,3., but .* .3,2."),
    (([2, 1, 3], [2, 1, 3], [1, 3]), "initial_state .* decays without axis, .2,3., but .* .1,3."),
):
    for compiled in (False, True):
        function = tf.function(
            lambda a, x, h: tf_plr.linear_recurrence(a, x, h, axis=len(a.shape) - 2),
            input_signature=[tf.TensorSpec([None] * len(shape)) for shape in shapes],
            jit_compile=compiled,
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            function(*map(tf.ones, shapes))

# A saved model needs the import only.
module = tf.Module()
module.serve = tf.function(
    lambda a: tf_plr.linear_recurrence(a, a), input_signature=[tf.TensorSpec([None])]
)
tf.saved_model.save(module, sys.argv[1])
""",
        tmp_path / "model",
        **elsewhere,
    )
    load = "model = tf.saved_model.load(sys.argv[1]); assert model.serve([1.0, 1.0])[1] == 2"
    for environment in (elsewhere, {}):  # There, and where the native library is the right one.
        run_python(
            f"import sys, tensorflow as tf, tf_plr; {load}", tmp_path / "model", **environment
        )


def test_gradients_through_a_vectorized_map(elsewhere):
    """TensorFlow drops custom gradients there, without a word: these are none."""
    run_python(
        """
import numpy as np, tensorflow as tf, tf_plr
decays, ones, scales = tf.fill([3], 0.5), tf.ones([3]), tf.constant([1.0, 2.0])

def values_and_gradients(map_, function):
    with tf.GradientTape() as tape:
        tape.watch(scales)
        values = map_(function, scales)
    return values, tape.gradient(values, scales)

@tf.function
def gradient_of_a_jacobian(pfor):
    with tf.GradientTape() as outer:
        outer.watch(decays)
        with tf.GradientTape(persistent=not pfor) as inner:
            inner.watch(decays)
            states = tf_plr.linear_recurrence(decays, ones)
        squares = tf.square(inner.jacobian(states, decays, experimental_use_pfor=pfor))
    return outer.gradient(squares, decays)

layer = tf_plr.GILRLSTM(3)
layer.build((None, None, 1))
functions = {
    "op": lambda c: tf_plr.linear_recurrence(c * decays, ones),
    "layer": lambda c: layer(tf.reshape(c * ones, [1, 3, 1])),
}
for function in functions.values():
    expected = values_and_gradients(tf.map_fn, function)
    assert np.all(expected[1] != 0)
    for run in (values_and_gradients, tf.function(values_and_gradients)):
        for found, right in zip(run(tf.vectorized_map, function), expected):
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
# states = (1, 1 + a1, 1 + a2 (1 + a1)): squares' sum = 1 + a2^2 + (1 + a1)^2.
np.testing.assert_allclose(gradient_of_a_jacobian(True), [0, 3, 1], rtol=1e-6)
""",
        **elsewhere,
    )


def test_arrays_are_row_major(monkeypatch):
    """Of which XLA makes others, on GPUs, where the module does not say so."""
    from tensorflow.compiler.mlir.stablehlo import stablehlo  # Not public.

    written = []
    monkeypatch.setattr(
        stablehlo, "serialize_portable_artifact_str", lambda text, _: written.append(text) or b""
    )
    portable._module.__wrapped__("Grad", "float32", rank=3, axis=1, reverse=0, algorithm=0)
    (module,) = written
    steps, columns = "dense<[2, 1, 0]> : tensor<3xindex>", "dense<[1, 0]> : tensor<2xindex>"
    shapes = ["dense<[0]> : tensor<1xindex>"] * 3
    assert f"operand_layouts = [{', '.join([*[steps] * 3, columns, *shapes])}]" in module
    assert f"result_layouts = [{', '.join([steps, steps, columns])}]" in module


def test_diagnosis(elsewhere):
    done = subprocess.run(
        [sys.executable, "-m", "tf_plr"],
        capture_output=True,
        text=True,
        cwd=tempfile.gettempdir(),
        timeout=600,
        env={**os.environ, **elsewhere},
    )
    assert done.returncode == 1
    assert "\ninstead " in done.stdout and "PROBLEM     tf_plr's native library" in done.stdout
    assert done.stdout.count("recurrence works, its gradient works\n") == (4 if GPUS else 2)


@pytest.mark.parametrize("cuda", [None, "12.8.1"])
def test_a_gpu_needs_gpu_code(monkeypatch, cuda):
    """Which GPU and library need not be."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(_library, "information", lambda library: {"cuda": cuda})
    problem = portable._problem()
    assert ("built without code for GPUs" in problem) if cuda is None else problem == ""


def test_where_it_cannot_run(elsewhere, tmp_path):
    """With a damaged portable library, say."""
    folder = Path(elsewhere["PYTHONPATH"].split(os.pathsep)[0]) / "tf_plr"
    shutil.copytree(folder, tmp_path / "tf_plr")
    (tmp_path / "tf_plr" / "_portable.so").write_bytes(b"not a library")
    run_python(
        """
import pytest, tf_plr
with pytest.raises(ImportError, match=r"TensorFlow 9.8.7, .* place: .*_portable.so is not whole"):
    tf_plr.linear_recurrence([1.0], [1.0])
assert tf_plr.linear_recurrence([1.0], [1.0], algorithm="composed") == 1
""",
        PYTHONPATH=os.pathsep.join([str(tmp_path), elsewhere["PYTHONPATH"]]),
    )
