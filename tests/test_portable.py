# SPDX-License-Identifier: MIT
"""The portable library, which runs the ops through XLA if they were built for another TensorFlow.

A copy of tf_plr claims to be built for another TensorFlow; other test files run again on that copy.
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
from support import run_program, run_python

import tf_plr
from tf_plr._native import library, portable, stablehlo
from tf_plr._native.signatures import AxisSize

GPUS = tf.config.list_physical_devices("GPU")
GPU_PATHS = (
    "rows_cluster-auto-float32", "rows_look_back_many_segments-auto-complex64",
    "rows_streamed-serial-float32", "short_rows_many_tiles-parallel-bfloat16",
)  # fmt: skip
TESTS = Path(__file__).parent
FOLDERS = {path.stem: path.parent for path in TESTS.rglob("test_*.py")}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Environment variables with which a process imports that copy."""
    if GPUS and not library.information(library.ENGINE)["cuda"]:
        pytest.skip("the portable library was built without GPU code")
    folder = tmp_path_factory.mktemp("elsewhere")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(tf_plr.__file__).parent, folder / "tf_plr", ignore=ignored)
    description = folder / "tf_plr" / "_native" / library.OPS.with_suffix(".json").name
    description.write_text(json.dumps({**library.information(), "tensorflow": "9.8.7"}))
    path = [str(folder), str(TESTS), str(TESTS / "ops"), os.environ.get("PYTHONPATH", "")]
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
        (["layers.py::test_equals_keras_rnn_around_the_cell"], "not (holes and float32)"),
        *(
            pytest.param(["gpu.py::test_every_path"], "nothing", marks=pytest.mark.slow)
            for _ in GPUS[:1]
        ),
        # All tests except those that need an unknown rank or test the native op itself.
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
        [*command, *(f"{FOLDERS['test_' + test.partition('.')[0]]}/test_{test}" for test in tests)],
        cwd=tempfile.gettempdir(),  # So that tf_plr is not imported from the sources.
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, **elsewhere},
    )
    assert "which is slower" in done.stdout
    assert done.returncode == 0, done.stdout[-5000:]


def test_it_says_so_and_what_it_has_not(elsewhere, tmp_path):
    run_program(
        "portable_ops.py",
        tmp_path / "model",
        **elsewhere,
    )
    load = "model = tf.saved_model.load(sys.argv[1]); assert model.serve([1.0, 1.0])[1] == 2"
    for environment in (elsewhere, {}):  # In the copy, and with the native ops.
        run_python(
            f"import sys, tensorflow as tf, tf_plr; {load}", tmp_path / "model", **environment
        )


def test_gradients_through_a_vectorized_map(elsewhere):
    """A vectorized map silently drops tf.custom_gradient, so the portable ops must not use it."""
    run_program(
        "portable_vectorized_map.py",
        **elsewhere,
    )


def test_arrays_are_row_major(monkeypatch):
    """On GPUs, XLA chooses other layouts unless the module states row-major ones."""
    from tensorflow.compiler.mlir.stablehlo import stablehlo as writer  # Not public.

    written = []
    monkeypatch.setattr(
        writer, "serialize_portable_artifact_str", lambda text, _: written.append(text) or b""
    )
    array, columns = ("f32", 3), ("f32", 2)
    sizes = tuple(AxisSize(0, axis) for axis in range(3))
    results = (("f32", sizes), ("f32", sizes), ("f32", sizes[:2]))
    stablehlo.module.__wrapped__("TfPlr>Op", "axis = 1 : i64", (array, array, columns), results)
    (module,) = written
    steps, columns = "dense<[2, 1, 0]> : tensor<3xindex>", "dense<[1, 0]> : tensor<2xindex>"
    shapes = ["dense<[0]> : tensor<1xindex>"] * 3
    assert f"operand_layouts = [{', '.join([steps, steps, columns, *shapes])}]" in module
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
    assert "\ninstead " in done.stdout and "PROBLEM     the native ops were built" in done.stdout
    for name in ("recurrence", "its gradient", "fused cells", "windows"):
        assert done.stdout.count(f"{name} works") == (4 if GPUS else 2)


@pytest.mark.parametrize("cuda", [None, "12.8.1"])
def test_a_gpu_needs_gpu_code(monkeypatch, cuda):
    """The GPU and the library's description are faked."""
    whole = library.information
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(
        library, "information", lambda library=None: {**whole(library), "cuda": cuda}
    )
    problem = portable.Portable().why_unusable()
    assert ("built without GPU code" in problem) if cuda is None else problem == ""


def test_where_it_cannot_run(elsewhere, tmp_path):
    """With a damaged portable library, say."""
    folder = Path(elsewhere["PYTHONPATH"].split(os.pathsep)[0]) / "tf_plr"
    shutil.copytree(folder, tmp_path / "tf_plr")
    (tmp_path / "tf_plr" / "_native" / library.ENGINE.name).write_bytes(b"not a library")
    run_program(
        "no_portable_library.py",
        PYTHONPATH=os.pathsep.join([str(tmp_path), elsewhere["PYTHONPATH"]]),
    )
