# SPDX-License-Identifier: MIT
"""Registers functions with TensorFlow, which refuses a second one for the same op.

A module that is imported a second time in one process, as by importlib.reload, must not fail: the
first function, which does the same, stays. Another package's function for the same op is an error.
"""

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

# TensorFlow has no public way to say how tf.vectorized_map runs an op.
from tensorflow.python.ops.parallel_for.pfor import RegisterPFor

Function = TypeVar("Function", bound=Callable[..., object])


# What tf_plr has registered in this process, also from modules that are imported anew.
_registered: set[tuple[str, str]] = getattr(tf, "_tf_plr_registered", set())
tf._tf_plr_registered = _registered  # TensorFlow lives as long as its registries.


def register_gradient(op: str) -> Callable[[Function], Function]:
    """As tf.RegisterGradient."""
    return _once(("gradient", op), tf.RegisterGradient(op))


def register_vectorization(op: str) -> Callable[[Function], Function]:
    """As TensorFlow's RegisterPFor: the function stands for all iterations of a loop over an op."""
    return _once(("vectorization", op), RegisterPFor(op))


def _once(
    what: tuple[str, str], decorator: Callable[[Function], object]
) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        if what not in _registered:
            decorator(function)
            _registered.add(what)
        return function

    return register
