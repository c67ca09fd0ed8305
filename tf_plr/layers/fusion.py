# SPDX-License-Identifier: MIT
"""When a layer runs as the fused op, and the switch that turns it off."""

import os
from typing import Any

import keras
import tensorflow as tf

from tf_plr import portable
from tf_plr.gated_recurrence import CELLS, DTYPES

# Keras' activations by those of the native cells.
_ACTIVATIONS = (
    (keras.activations.elu, tf.nn.elu),
    (keras.activations.tanh, tf.tanh),
    (keras.activations.linear, tf.identity),
)
_enabled = os.environ.get("TF_PLR_FUSED", "1") != "0"


def set_fused(enabled: bool) -> None:
    """Whether layers and cells with default activations are one fused op; they are, unless told.

    Off, they are TensorFlow's ops around `tf_plr.linear_recurrence`, as are the windows of every
    QRNN: slower, and equal but for rounding. For tests, and for doubt. Functions that TensorFlow
    has traced stay as they are. The environment variable `TF_PLR_FUSED=0` switches it off from the
    start. Off it stays where the native library was built for another TensorFlow.

    Args:
        enabled: Whether to fuse.
    """
    global _enabled
    _enabled = bool(enabled)


def is_fused() -> bool:
    """Whether layers run as one fused op where they can: see `set_fused`."""
    return _enabled and not portable.takes_over()


def native_cell(activation: Any, own_input: bool, output: str) -> str | None:
    """The native cell with this arithmetic, if there is one and fusion is on."""
    native = next((function for of, function in _ACTIVATIONS if of is activation), None)
    if native is None or not is_fused():
        return None
    wanted = (native, own_input, output)
    return next((name for name, cell in CELLS.items() if cell == wanted), None)


def suits(dtype: Any, units: int) -> bool:
    """Whether the native cells take products of this dtype: 16-bit units come in pairs."""
    dtype = tf.as_dtype(dtype)
    return dtype.name in DTYPES and (dtype.size > 2 or units % 2 == 0)
