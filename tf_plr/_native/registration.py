# SPDX-License-Identifier: MIT
"""Registers gradients and vectorizations with TensorFlow, once for each op.

TensorFlow refuses a second function for the same op. But a module that is imported a second time in
one process, for example by importlib.reload, must not fail: its first function stays, and does the
same. If another package has registered a function for the op, that is an error.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

# TensorFlow has no public way to say how tf.vectorized_map runs an op.
from tensorflow.python.ops.parallel_for.pfor import RegisterPFor

Function = TypeVar("Function", bound=Callable[..., object])

# What tf_plr has registered in this process, including earlier imports of its modules.
_registered: set[tuple[str, str]] = getattr(tf, "_tf_plr_registered", set())
tf._tf_plr_registered = _registered  # Kept in TensorFlow, which lives as long as its registries.

# The gradients of tf_plr's ops, for calls that do not go through TensorFlow's registry.
gradients: dict[str, Callable[..., Any]] = {}


def register_gradient(op: str) -> Callable[[Function], Function]:
    """Registers the gradient of an op of tf_plr: function(op, *gradients of outputs)."""

    def register(function: Function) -> Function:
        gradients[op] = function
        return register_foreign_gradient(f"TfPlr>{op}")(function)

    return register


def register_foreign_gradient(op: str) -> Callable[[Function], Function]:
    """Registers the gradient of any op, like tf.RegisterGradient."""
    return _register_once(("gradient", op), tf.RegisterGradient(op))


def register_vectorization(op: str) -> Callable[[Function], Function]:
    """Registers how tf.vectorized_map runs an op of tf_plr: function(pfor input)."""
    name = f"TfPlr>{op}"
    return _register_once(("vectorization", name), RegisterPFor(name))


def _register_once(
    key: tuple[str, str], decorator: Callable[[Function], object]
) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        if key not in _registered:
            decorator(function)
            _registered.add(key)
        return function

    return register
