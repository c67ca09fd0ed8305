# SPDX-License-Identifier: MIT
"""Errors and warnings if the native library is missing or is not the right one."""

import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
from support import XLA, run_program, run_python

import tf_plr
from tf_plr import _native
from tf_plr.__main__ import print_devices, print_driver
from tf_plr._native import library as native
from tf_plr._native import portable

BUILT = native.information()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A path without the ops, but with their description; the engine stays the real one."""
    monkeypatch.setattr(native, "OPS", tmp_path / native.OPS.name)
    forget()
    describe(**BUILT)
    yield native.OPS
    forget()


def forget():
    native.load_ops.cache_clear()
    native.check.cache_clear()
    portable.register_handlers.cache_clear()
    native.warn_of_unused_gpus.cache_clear()
    _native.choice.cache_clear()


def describe(**built):
    native.OPS.with_suffix(".json").write_text(json.dumps(built))


def recur(algorithm="auto"):
    return tf_plr.linear_recurrence(tf.ones([2]), tf.ones([2]), algorithm=algorithm)


def test_public_names():
    """Nothing that a module imports for itself is offered at a prompt."""
    found = {name for name in dir(tf_plr) if not name.startswith("_")}
    assert found == {*tf_plr.__all__, "version"}


def test_missing(library):
    with pytest.raises(ImportError, match=f"not built: no {library}.*pip install"):
        recur()
    assert recur("composed").shape == [2]


def test_built_for_another_tensorflow(library, monkeypatch, tmp_path):
    """Without the engine, the portable library cannot replace the ops."""
    monkeypatch.setattr(native, "ENGINE", tmp_path / native.ENGINE.name)
    library.write_bytes(b"")
    describe(**{**BUILT, "tensorflow": "2.3.1"})
    with pytest.raises(
        ImportError,
        match=rf"TensorFlow 2\.3\.1, but TensorFlow {tf.__version__}.*cannot take.*pip install",
    ):
        recur()


def test_of_another_version(library):
    library.write_bytes(b"")
    describe(**{**BUILT, "tf_plr": "0.0.7"})
    with pytest.raises(
        ImportError, match=rf"is of tf_plr 0\.0\.7, but this is tf_plr {tf_plr.__version__}\..*pip"
    ):
        recur()


def test_built_for_another_processor(library):
    library.write_bytes(b"")
    describe(**{**BUILT, "machine": "s390x"})
    with pytest.raises(ImportError, match=r"was built for s390x processors, .*pip install"):
        recur()


@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_not_whole(library, kept):
    """Loading a truncated library could kill the process (SIGBUS, or an invalid instruction)."""
    whole = Path(native.__file__).with_name(native.OPS.name).read_bytes()
    library.write_bytes(whole[:kept])
    with pytest.raises(ImportError, match=r"is damaged, .* SHA-256 .*pip install"):
        recur()


def test_not_a_library(library):
    library.write_bytes(b"not a library")
    describe(**{**BUILT, "sha256": hashlib.sha256(b"not a library").hexdigest()})
    with pytest.raises(ImportError, match=r"could not be loaded .*pip install"):
        recur()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"tensorflow": "2.21.0"}', "\0"])
def test_damaged_description(library, text):
    library.write_bytes(b"")
    library.with_suffix(".json").write_text(text)
    with pytest.raises(ImportError, match=r"is damaged: .*pip install|lacks .*pip install"):
        recur()


def test_left_out(library):
    describe(left_out="TF_PLR_NATIVE=0")
    with pytest.raises(ImportError, match=r'TF_PLR_NATIVE=0 was set: only .*algorithm="composed"'):
        recur()
    assert recur("composed").shape == [2]


@pytest.mark.parametrize(("cuda", "gpus"), [(None, 1), (None, 0), ("13.0", 1)])
def test_a_gpu_without_code_for_it(monkeypatch, cuda, gpus):
    """Warns once, and names the remedy."""
    whole = native.information
    monkeypatch.setattr(
        native, "information", lambda library=None: {**whole(library), "cuda": cuda}
    )
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["a GPU"] * gpus)
    forget()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [recur()[1] for _ in range(2)] == [2, 2]
    forget()
    said = [str(warning.message) for warning in caught]
    assert len(said) == (cuda is None and gpus > 0)
    assert all(re.search("built without GPU code.*TF_PLR_CUDA=1", text) for text in said)


@pytest.mark.parametrize(
    ("version", "cuda", "problem"),
    [
        (12080, "13.0", "CUDA 13.0, which needs an NVIDIA driver from 580 on.*for CUDA 12.8"),
        (13000, "13.0", None),
        (13010, "12.8", None),
        (12020, None, None),
    ],
)
def test_diagnosis_of_a_driver(monkeypatch, version, cuda, problem):
    class Driver:
        def cuDriverGetVersion(self, number):  # noqa: N802
            number._obj.value = version

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    found = []
    print_driver({"cuda": cuda}, found)
    assert len(found) == (problem is not None)
    assert not found or re.search(problem, found[0])


def test_no_description(library):
    library.write_bytes(b"")
    library.with_suffix(".json").unlink()
    with pytest.raises(ImportError, match=r"not built: no .*json.*pip install"):
        recur()


def test_a_second_copy(tmp_path):
    """One process loads a second copy of the library."""
    for path in (native.OPS, native.ENGINE):
        for suffix in (".so", ".json"):
            shutil.copy(path.with_suffix(suffix), tmp_path)
    run_program("second_copy.py", tmp_path)


def diagnose(cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "tf_plr"],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def test_diagnosis():
    # Hide GPUs: the library may have no code for them.
    done = diagnose(tempfile.gettempdir(), CUDA_VISIBLE_DEVICES="-1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All is well.\n")
    for name in ("recurrence", "its gradient", "fused cells", "windows"):
        assert done.stdout.count(f"{name} works") >= 1 + XLA  # On the CPU, with XLA or without.
    assert f"for TensorFlow {BUILT['tensorflow']}" in done.stdout


def test_diagnosis_of_a_damaged_library(tmp_path):
    broken = tmp_path / "tf_plr"
    shutil.copytree(Path(tf_plr.__file__).parent, broken)
    (broken / "_native" / native.ENGINE.name).write_bytes(native.ENGINE.read_bytes()[:5000])
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = diagnose(tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    assert "PROBLEM     tf_plr's native library" in done.stdout and "is damaged" in done.stdout


@pytest.mark.parametrize(
    ("architectures", "capability", "devices", "problem"),
    [
        (["80", "90"], (8, 0), ["CPU", "GPU"], None),
        (["80", "90"], (12, 0), ["CPU", "GPU"], None),
        (["90"], (8, 0), ["CPU", "GPU"], r"from sm_90 on, .* sm_80: .*ARCHITECTURES=80"),
        (["80", "90"], (7, 5), ["CPU", "GPU"], r"from sm_80 on, .* sm_75; its kernels need sm_80"),
        ([], (8, 0), ["CPU"], "built without GPU code"),
    ],
)
def test_diagnosis_of_a_gpu(monkeypatch, architectures, capability, devices, problem):
    """Which need not be there."""
    gpu = SimpleNamespace(name="a GPU")
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    found = []
    assert print_devices({"cuda_architectures": architectures}, found) == devices
    assert len(found) == (problem is not None)
    assert not found or re.search(problem, found[0])


def test_no_tensorflow():
    run_program("no_tensorflow.py")


def test_a_second_import_in_one_process():
    """TensorFlow refuses a second gradient for an op: the first one stays."""
    run_program("second_import.py")


def test_import_loads_what_is_there_and_keeps_the_error_otherwise(tmp_path):
    run_program("import_of_tf_plr.py")
    broken = tmp_path / "tf_plr"
    shutil.copytree(Path(tf_plr.__file__).parent, broken, ignore=shutil.ignore_patterns("*.so"))
    run_program(
        "import_without_libraries.py",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )


def test_a_saved_model_needs_the_import_only(tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda a: tf_plr.linear_recurrence(a, a), input_signature=[tf.TensorSpec([None])]
    )
    tf.saved_model.save(module, tmp_path / "model")
    load = "model = tf.saved_model.load(sys.argv[1])"
    run_python(
        f"import sys, tensorflow as tf, tf_plr; {load}; assert model.serve([1.0])[0] == 1",
        tmp_path / "model",
    )
    run_python(
        "import sys, pytest, tensorflow as tf\n"
        "with pytest.raises(Exception, match='Op type not registered .TfPlr>LinearRecurrence'):"
        f"\n    {load}",
        tmp_path / "model",
    )


def test_only_public_interfaces_are_imported():
    for source in Path(tf_plr.__file__).parent.rglob("*.py"):
        text = source.read_text()
        # These modules need TensorFlow internals that have no public interface.
        private = "tensorflow.python" in text or "tensorflow.compiler" in text
        known = ("registration.py", "vectorization.py", "portable.py", "stablehlo.py")
        assert private == (source.name in known), source
        assert "keras.src" not in text


def test_the_libraries_are_small():
    """A wheel compresses them to three quarters; build_pip_pkg.sh allows a wheel 25 MB."""
    most = 35e6 if BUILT["cuda"] else 9e6
    assert native.OPS.stat().st_size + native.ENGINE.stat().st_size < most
