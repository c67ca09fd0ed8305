# SPDX-License-Identifier: MIT
"""Loads the native library, once, when an op first needs it."""

import functools
import json
from pathlib import Path

import tensorflow as tf

PATH = Path(__file__).with_name("_native.so")
REMEDY = (
    "Rebuild it for this TensorFlow with `pip install --force-reinstall --no-deps "
    "--no-build-isolation tf_plr` (from a source tree: `.` instead of `tf_plr`), or pass "
    'algorithm="composed", which needs no native library.'
)


def load_library():
    """Registers the native ops with TensorFlow.

    `linear_recurrence` and the layers do so when they first need it. Call it before loading a
    SavedModel that was exported with them.

    Raises:
        ImportError: the library is missing, was built for another TensorFlow, or cannot be loaded.
    """
    load()


@functools.cache
def load():
    """Returns the module of the native ops.

    Raises:
        ImportError: the library is missing, was built for another TensorFlow, or cannot be
            loaded. The message says what was found, what was expected, and the remedy.
    """
    info_path = PATH.with_suffix(".json")
    for path in (PATH, info_path):
        if not path.exists():
            raise ImportError(f"tf_plr's native library is not built: no {path}. {REMEDY}")
    built_for = json.loads(info_path.read_text())["tensorflow"]
    if _minor(built_for) != _minor(tf.__version__):
        raise ImportError(
            f"tf_plr's native library {PATH} was built for TensorFlow {built_for}, but TensorFlow "
            f"{tf.__version__} is running; their binary interfaces differ. {REMEDY}"
        )
    try:
        return tf.load_op_library(str(PATH))
    except (tf.errors.OpError, OSError) as error:
        raise ImportError(
            f"tf_plr's native library {PATH}, built for TensorFlow {built_for}, could not be "
            f"loaded into TensorFlow {tf.__version__}: {error}. {REMEDY}"
        ) from error


def _minor(version):
    return version.split(".")[:2]
