# SPDX-License-Identifier: MIT
"""Decides which layers run as the fused op."""

import functools
from typing import Any

import keras
import tensorflow as tf

from tf_plr._ops.arguments import GATED_DTYPES
from tf_plr._ops.gated_recurrence import ACTIVATIONS, GATES, Parts
from tf_plr.config import is_fusion_enabled


def parts_of(
    activation: Any, state_activation: Any, recurrent_activation: Any, **others: str
) -> Parts | None:
    """The parts of a cell with these functions, if the fused op has all of them and is enabled.

    Args:
        activation: Activation of the candidate.
        state_activation: Activation of the states in the output. None: the identity.
        recurrent_activation: Activation of the gates.
        **others: The other parts.
    """
    of_candidate, of_gates = native_name(activation), native_name(recurrent_activation)
    of_states = "linear" if state_activation is None else native_name(state_activation)
    if of_candidate not in ACTIVATIONS or of_states not in ACTIVATIONS or of_gates not in GATES:
        return None
    if not is_fusion_enabled():
        return None
    return Parts(
        activation=of_candidate,
        state_activation=of_states,
        recurrent_activation=of_gates,
        **others,
    )


def native_name(function: Any) -> str:
    """The fused op's name for a function, or "" if it has none."""
    if isinstance(function, functools.partial) and function.func is keras.activations.gelu:
        options = function.keywords
        if not function.args and options.keys() == {"approximate"}:
            return "gelu_tanh" if options["approximate"] else "gelu"
    return next((name for known, name in _NATIVE_NAMES if known is function), "")


_SAME_NAMES = ("tanh", "sigmoid", "relu", "elu", "silu", "gelu", "softplus")
_NATIVE_NAMES = (
    *((getattr(keras.activations, name), name) for name in (*_SAME_NAMES, "linear")),
    (keras.activations.hard_sigmoid, "hard_sigmoid"),
    (tf.identity, "linear"),
    *((getattr(tf.nn, name), name) for name in _SAME_NAMES),
)


def takes_dtype(dtype: Any) -> bool:
    """Whether the native ops, except `LinearRecurrence`, support this dtype."""
    return tf.as_dtype(dtype).name in GATED_DTYPES
