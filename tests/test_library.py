# SPDX-License-Identifier: MIT
"""What happens when the native library is not there, or not the right one."""

import json
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

import tf_plr
from tf_plr import _library


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of the library's info file, beside no library; `_library` looks here."""
    monkeypatch.setattr(_library, "PATH", tmp_path / "_native.so")
    _library.load_library.cache_clear()
    shutil.copy(_library.__file__.replace("_library.py", "_native.json"), tmp_path)
    yield _library.PATH
    _library.load_library.cache_clear()


def recur(algorithm="auto"):
    return tf_plr.linear_recurrence(tf.ones([2]), tf.ones([2]), algorithm=algorithm)


def test_missing(library):
    with pytest.raises(ImportError, match=f"not built: no {library}.*pip install"):
        recur()
    assert recur("composed").shape == [2]


def test_built_for_another_tensorflow(library):
    library.write_bytes(b"")
    info = json.loads(library.with_suffix(".json").read_text())
    library.with_suffix(".json").write_text(json.dumps({**info, "tensorflow": "2.3.1"}))
    with pytest.raises(
        ImportError, match=rf"TensorFlow 2\.3\.1, but TensorFlow {tf.__version__}.*pip install"
    ):
        recur()


def test_not_a_library(library):
    library.write_bytes(b"not a library")
    with pytest.raises(ImportError, match=r"could not be loaded .*pip install"):
        recur()


def test_loaded_on_first_use_only():
    program = """
import tf_plr, tensorflow as tf
from tf_plr import _library
tf_plr.GILR(3)
tf_plr.linear_recurrence([1.0], [1.0], algorithm="composed")
assert _library.load_library.cache_info().currsize == 0
tf_plr.linear_recurrence([1.0], [1.0])
assert _library.load_library.cache_info().currsize == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_only_public_interfaces_are_imported():
    for source in _library.PATH.parent.rglob("*.py"):
        text = source.read_text()
        # TensorFlow has no public interface for what vectorization.py does.
        assert "tensorflow.python" not in text or source.name == "vectorization.py"
        assert "keras.src" not in text
