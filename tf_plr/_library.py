# SPDX-License-Identifier: MIT
"""Loads the native library: on import, or else an error says why when an op is first needed."""

import functools
import json
from pathlib import Path
from typing import Any

import tensorflow as tf

PATH = Path(__file__).with_name("_native.so")
REMEDY = (
    "Rebuild it for this TensorFlow: in tf_plr's source tree, run `pip install --force-reinstall "
    '--no-deps --no-build-isolation .`. Or pass algorithm="composed", which needs no library; for '
    "a cell on its own, call tf_plr.set_fused(False)."
)


@functools.cache
def load_library() -> Any:
    """Registers the native ops with TensorFlow, and returns their module.

    `import tf_plr` does so where it can; what went wrong there is said here, or when an op is first
    needed.

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


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
