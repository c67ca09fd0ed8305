# SPDX-License-Identifier: MIT
"""Which layers run as the fused op."""

from typing import Any

import keras
import tensorflow as tf

from tf_plr._ops.gated_recurrence import CELLS, DTYPES
from tf_plr.config import is_fusion_enabled

# Keras' activations, and those of the native cells.
_ACTIVATIONS = (
    (keras.activations.elu, tf.nn.elu),
    (keras.activations.tanh, tf.tanh),
    (keras.activations.linear, tf.identity),
)


def native_cell(activation: Any, own_input: bool, output: str) -> str | None:
    """The native cell with this arithmetic, if there is one and fusion is enabled."""
    native = next((function for of, function in _ACTIVATIONS if of is activation), None)
    if native is None or not is_fusion_enabled():
        return None
    wanted = (native, own_input, output)
    return next((name for name, cell in CELLS.items() if cell == wanted), None)


def takes_product(dtype: Any, units: int) -> bool:
    """Whether the native cells take products of this dtype: 16-bit units come in pairs."""
    return takes_dtype(dtype) and (tf.as_dtype(dtype).size > 2 or units % 2 == 0)


def takes_dtype(dtype: Any) -> bool:
    """Whether the native ops other than the recurrence take this dtype."""
    return tf.as_dtype(dtype).name in DTYPES
