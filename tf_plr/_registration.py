# SPDX-License-Identifier: MIT
"""Registers functions with TensorFlow, which refuses a second one for the same op.

A module that is imported a second time in one process, as by importlib.reload, must not fail: the
first function, which does the same, stays.
"""

import contextlib
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

# TensorFlow has no public way to say how tf.vectorized_map runs an op.
from tensorflow.python.ops.parallel_for.pfor import RegisterPFor

Function = TypeVar("Function", bound=Callable[..., object])


def register_gradient(op: str) -> Callable[[Function], Function]:
    """As tf.RegisterGradient."""
    return _once(tf.RegisterGradient(op))


def register_vectorization(op: str) -> Callable[[Function], Function]:
    """As TensorFlow's RegisterPFor: the function stands for all iterations of a loop over an op."""
    return _once(RegisterPFor(op))


def _once(decorator: Callable[[Function], object]) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        with contextlib.suppress(KeyError, AssertionError):
            decorator(function)
        return function

    return register
