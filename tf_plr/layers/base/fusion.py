# SPDX-License-Identifier: MIT
"""Decides which layers run as the fused op."""

from typing import Any

import keras
import tensorflow as tf

from tf_plr._ops.arguments import GATED_DTYPES
from tf_plr._ops.gated_recurrence import CELLS
from tf_plr.config import is_fusion_enabled

# Keras' activations, each with the function that stands for it in `CELLS`.
_ACTIVATIONS = (
    (keras.activations.elu, tf.nn.elu),
    (keras.activations.tanh, tf.tanh),
    (keras.activations.linear, tf.identity),
)


def native_cell(activation: Any, has_input_gate: bool, output: str) -> str | None:
    """The native cell with this arithmetic, if there is one and fusion is enabled."""
    native = next((function for of, function in _ACTIVATIONS if of is activation), None)
    if native is None or not is_fusion_enabled():
        return None
    wanted = (native, has_input_gate, output)
    return next((name for name, cell in CELLS.items() if cell == wanted), None)


def takes_product(dtype: Any, units: int) -> bool:
    """Whether the native cells support such products: in 16 bits, `units` must be even."""
    return takes_dtype(dtype) and (tf.as_dtype(dtype).size > 2 or units % 2 == 0)


def takes_dtype(dtype: Any) -> bool:
    """Whether the native ops, except `LinearRecurrence`, support this dtype."""
    return tf.as_dtype(dtype).name in GATED_DTYPES
