# SPDX-License-Identifier: MIT
"""Checks of what users hand to cells and layers; each error names the argument."""

import numbers
import operator

import keras
import tensorflow as tf
from keras import ops


def positive_integer(name, value):
    try:
        integer = operator.index(value)
    except TypeError:
        integer = 0
    if integer <= 0 or isinstance(value, bool):
        raise ValueError(f"{name} must be a positive integer, but is {value!r}")
    return integer


def rate(name, value):
    if not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), but is {value!r}")
    return float(value)


def real(name, value):
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, but is {value!r}")
    return float(value)


def features_of(shape):
    """The number of features of inputs of that shape."""
    if shape[-1] is None:
        raise ValueError(f"inputs must have a known number of features, but have shape {shape}")
    return shape[-1]


def mask_of(sequences, mask):
    """The mask as a boolean tensor [batch, time], or None."""
    if mask is None:
        return None
    mask = _as_tensor("mask", mask)
    if keras.backend.standardize_dtype(mask.dtype) != "bool":
        raise TypeError(f"mask must be boolean, but has dtype {mask.dtype}")
    return _with_shape("mask", mask, ops.shape(sequences)[:2])


def states_of(name, inputs, states, sizes):
    """The states as a list of tensors [batch, size]."""
    if not isinstance(states, (list, tuple)) or len(states) != len(sizes):
        got = f"has {len(states)}" if isinstance(states, (list, tuple)) else f"is {type(states)}"
        raise ValueError(f"{name} must be a list of {len(sizes)} tensors, but {got}")
    batch_size = ops.shape(inputs)[0]
    return [
        _with_shape(f"{name}[{i}]", _as_tensor(f"{name}[{i}]", state), (batch_size, size))
        for i, (state, size) in enumerate(zip(states, sizes, strict=True))
    ]


def _as_tensor(name, value):
    try:
        return ops.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be a tensor, but: {error}") from None


def _with_shape(name, tensor, shape):
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
