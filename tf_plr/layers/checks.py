# SPDX-License-Identifier: MIT
"""Checks of what users hand to cells and layers; each error names the argument."""

import math
import numbers
import operator
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tf_plr.layers.types import Tensor


def positive_integer(name: str, value: Any) -> int:
    try:
        integer = operator.index(value)
    except TypeError:
        integer = 0
    if integer <= 0 or isinstance(value, bool):
        raise ValueError(f"{name} must be a positive integer, but is {value!r}")
    return integer


def rate(name: str, value: Any) -> float:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= float(value) < 1:
        raise ValueError(f"{name} must be in [0, 1), but is {value!r}")
    return float(value)


def number(name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, but is {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, but is {value!r}")
    return float(value)


def bias(name: str, value: Any) -> Any:
    """A finite number as a float, or an initializer."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return number(name, value)
    if isinstance(value, (str, dict)) or callable(value):
        return keras.initializers.get(value)
    raise TypeError(f"{name} must be a number or an initializer, but is {value!r}")


def input_bias(value: Any) -> Any:
    """As `bias`, or None, "coupled" or "normalized"."""
    if value is None or (isinstance(value, str) and value in ("coupled", "normalized")):
        return value
    try:
        return bias("input_bias", value)
    except ValueError as error:
        raise ValueError(
            'input_bias must be a number, an initializer, "coupled" or "normalized", but is '
            f"{value!r}"
        ) from error


def features_of(shape: Any) -> int:
    """The number of features of inputs of that shape."""
    features = shape[-1]
    if features is None:
        raise ValueError(f"inputs must have a known number of features, but have shape {shape}")
    if features == 0:
        raise ValueError(f"inputs must have at least one feature, but have shape {shape}")
    return int(features)


def sequences_of(sequences: Tensor, dtype: str) -> Tensor:
    """The sequences [batch, time, features] as a tensor of a dtype."""
    if sequences.shape[1] == 0:
        raise ValueError(
            f"sequences must have at least one step, but have shape {tuple(sequences.shape)}"
        )
    if sequences.shape[1] is None:
        steps = tf.debugging.assert_positive(
            tf.shape(sequences)[1], "sequences must have at least one step"
        )
        with tf.control_dependencies([steps]):
            sequences = tf.identity(sequences)
    return ops.cast(sequences, dtype)


def mask_of(sequences: Tensor, mask: Tensor) -> Tensor:
    """The mask as a boolean tensor [batch, time], or None."""
    if mask is None:
        return None
    mask = _as_tensor("mask", mask)
    if keras.backend.standardize_dtype(mask.dtype) != "bool":
        raise TypeError(f"mask must be boolean, but has dtype {mask.dtype}")
    return _with_shape("mask", mask, ops.shape(sequences)[:2])


def states_of(name: str, inputs: Tensor, states: Any, sizes: list[int]) -> list[Tensor]:
    """The states as a list of tensors [batch, size]."""
    if not isinstance(states, (list, tuple)) or len(states) != len(sizes):
        got = f"has {len(states)}" if isinstance(states, (list, tuple)) else f"is {type(states)}"
        raise ValueError(f"{name} must be a list of {len(sizes)} tensors, but {got}")
    batch_size = ops.shape(inputs)[0]
    return [
        _with_shape(f"{name}[{i}]", _as_tensor(f"{name}[{i}]", state), (batch_size, size))
        for i, (state, size) in enumerate(zip(states, sizes, strict=True))
    ]


def _as_tensor(name: str, value: Any) -> Tensor:
    try:
        return ops.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be a tensor, but: {error}") from None


def _with_shape(name: str, tensor: Tensor, shape: tuple[Any, ...]) -> Tensor:
    """The tensor; what only the running graph knows of the shapes is checked there."""
    static = tf.TensorShape([size if isinstance(size, int) else None for size in shape])
    if not tensor.shape.is_compatible_with(static):
        raise ValueError(
            f"{name} must have shape {tuple(static)}, with the batch size of the inputs, but has "
            f"shape {tuple(tensor.shape)}"
        )
    if static.is_fully_defined() and tensor.shape.is_fully_defined():
        return tensor
    tensor = tf.ensure_shape(tensor, static)
    check = tf.debugging.assert_equal(
        tf.shape(tensor),
        tf.stack([*shape]),
        f"{name} must have the batch size, and a mask the steps, of the inputs. Its shape is x, "
        "and should be y:",
    )
    with tf.control_dependencies([check]):
        tensor = tf.identity(tensor)  # The stack alone would be optimised away with its dependency.
        # XLA leaves checks out, but not that tensors are stacked which have different shapes.
        name = "".join(c if c.isalnum() else "_" for c in name)
        like_it = tf.zeros([*shape], tensor.dtype)
        return tf.stack([tensor, like_it], name=f"{name}_must_have_the_shape_of_the_other")[0]
