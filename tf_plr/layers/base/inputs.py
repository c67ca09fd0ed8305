# SPDX-License-Identifier: MIT
"""Checks the call arguments of cells and layers; each error names the argument."""

from collections.abc import Collection
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import Tensor


def features_of(shape: Any) -> int:
    """The number of features of inputs of that shape."""
    features = shape[-1]
    if features is None:
        raise ValueError(f"inputs must have a known number of features, but have shape {shape}")
    if features == 0:
        raise ValueError(f"inputs must have at least one feature, but have shape {shape}")
    return int(features)


def check_sequences(sequences: Any, state_dtype: str) -> None:
    """Rejects sequences that Keras would convert, or would reject with a less helpful message."""
    kind = type(sequences).__name__
    is_ragged = isinstance(sequences, tf.RaggedTensor) or getattr(sequences, "ragged", False)
    if is_ragged is True:
        raise TypeError(
            f"sequences must be a dense tensor, but are ragged ({kind}): pass "
            "sequences.to_tensor(), and mask=tf.sequence_mask(sequences.row_lengths())"
        )
    if isinstance(sequences, tf.SparseTensor):
        raise TypeError(
            f"sequences must be a dense tensor, but are sparse ({kind}): pass "
            "tf.sparse.to_dense(sequences)"
        )
    dtype = getattr(sequences, "dtype", None)
    if isinstance(sequences, keras.KerasTensor) and dtype in ("string", "complex64", "complex128"):
        as_numbers("sequences", sequences, "float32", state_dtype)
    rank = len(sequences.shape) if getattr(sequences, "shape", None) is not None else 3
    if rank != 3:
        raise ValueError(
            "sequences must have shape [batch, time, features], but have shape "
            f"{tuple(sequences.shape)}: a recurrent layer before this one needs "
            "return_sequences=True, and a single sequence a batch axis, sequences[None]"
        )


def sequences_of(sequences: Tensor, features: int, dtype: str, state_dtype: str) -> Tensor:
    """The sequences [batch, time, features] as a tensor of a dtype."""
    if sequences.shape[1] == 0:
        raise ValueError(
            f"sequences must have at least one step, but have shape {tuple(sequences.shape)}"
        )
    sequences = as_numbers("sequences", sequences, dtype, state_dtype)
    if sequences.shape[1] is None:
        steps = tf.debugging.assert_positive(
            tf.shape(sequences)[1], "sequences must have at least one step"
        )
        with tf.control_dependencies([steps]):
            sequences = tf.identity(sequences)
    if sequences.shape[2] is None:
        # Not tf.ensure_shape, because it has no forward-mode derivative.
        sequences = tf.identity(sequences)
        sequences.set_shape([None, None, features])
    return sequences


def as_numbers(name: str, tensor: Tensor, dtype: str, state_dtype: str) -> Tensor:
    """Casts real numbers to `dtype`. Complex ones stay unchanged if states are complex."""
    if isinstance(tensor, tf.Variable):
        tensor = tf.convert_to_tensor(tensor)
    given = tf.as_dtype(tensor.dtype)
    if given.is_complex and tf.as_dtype(state_dtype).is_complex:
        return tensor
    side_by_side = "tf.concat([tf.math.real(x), tf.math.imag(x)], -1)"
    check_real(name, tensor, f": pass the real and imaginary parts side by side, {side_by_side}")
    if given == tf.string:
        raise TypeError(
            f"{name} must be numbers, but have dtype string: convert text to numbers with "
            "keras.layers.TextVectorization and Embedding"
        )
    return ops.cast(tensor, dtype)


def check_real(name: str, tensor: Tensor, hint: str = "") -> None:
    """Raises a TypeError if a tensor is complex: a cast would drop its imaginary part."""
    if tf.as_dtype(tensor.dtype).is_complex:
        dtype = tf.as_dtype(tensor.dtype).name
        raise TypeError(f"{name} must be real, not of dtype {dtype}{hint}")


def with_checked_batch_of(sequences: Tensor, others: Collection[Any], name: str) -> Tensor:
    """Makes the running graph check that the sequences have the batch size of the others.

    If a state has a known batch size, TensorFlow assumes that the sequences have it, too, and
    removes any other check. The error message contains `name`.
    """
    shapes = [tf.TensorShape(getattr(other, "shape", None)) for other in others]
    known = [shape[0] for shape in shapes if shape.rank and shape[0] is not None]
    if not known or sequences.shape[0] is not None:
        return sequences
    # TensorFlow prunes a check that no data flows through, so the sequences pass through this one.
    # It has no forward-mode derivative.
    return tf.ensure_shape(sequences, [known[0], *sequences.shape[1:]], name)


def after_checks_of(tensor: Tensor, checked: list[Any]) -> Tensor:
    """Returns the tensor, but only after the checks of the other tensors have run.

    Otherwise, another operation could fail first, with a message that names no argument.
    """
    if tf.executing_eagerly() or None not in tuple(tensor.shape):
        return tensor
    with tf.control_dependencies([other for other in checked if other is not None]):
        return tf.identity(tensor)


def flags_of(sequences: Tensor, mask: Tensor, resets: Tensor) -> StepFlags:
    """The flags of the steps as boolean tensors [batch, time], or None."""
    return StepFlags(
        _flags_of("mask", mask, sequences, "a step is valid"),
        _flags_of("resets", resets, sequences, "a step is the first of a new sequence"),
    )


def _flags_of(name: str, flags: Tensor, sequences: Tensor, where: str) -> Tensor:
    if flags is None:
        return None
    flags = _as_tensor(name, flags)
    if keras.backend.standardize_dtype(flags.dtype) != "bool":
        raise TypeError(
            f"{name} must be boolean, but has dtype {flags.dtype.name}: pass "
            f"tf.cast({name}, tf.bool), True where {where}"
        )
    return _with_shape(name, flags, ops.shape(sequences)[:2])


def states_of(
    name: str, inputs: Tensor, states: Any, sizes: list[int], dtype: str, hint: str = ""
) -> list[Tensor]:
    """Returns the states as tensors [batch, size]. They may be complex only if `dtype` is."""
    if not isinstance(states, (list, tuple)) or len(states) != len(sizes):
        got = f"has {len(states)}" if isinstance(states, (list, tuple)) else f"is {type(states)}"
        raise ValueError(f"{name} must be a list of {len(sizes)} tensors, but {got}")
    batch_size, found = ops.shape(inputs)[0], []
    for i, (state, size) in enumerate(zip(states, sizes, strict=True)):
        tensor = _as_tensor(f"{name}[{i}]", state)
        if not tf.as_dtype(dtype).is_complex:
            check_real(f"{name}[{i}]", tensor)
        if tensor.dtype == tf.string:
            raise TypeError(f"{name}[{i}] must be numbers, not of dtype string")
        found.append(_with_shape(f"{name}[{i}]", tensor, (batch_size, size), hint))
    return found


def _as_tensor(name: str, value: Any) -> Tensor:
    try:
        return ops.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be a tensor, but: {error}") from None


def _with_shape(name: str, tensor: Tensor, shape: tuple[Any, ...], hint: str = "") -> Tensor:
    """Checks a tensor's shape now, and in the running graph where a size is not known yet."""
    static = tf.TensorShape([size if isinstance(size, int) else None for size in shape])
    if not tensor.shape.is_compatible_with(static):
        raise ValueError(
            f"{name} must have shape {tuple(static)}, with the batch size of the inputs, but has "
            f"shape {tuple(tensor.shape)}{hint}"
        )
    if static.is_fully_defined() and tensor.shape.is_fully_defined():
        return tensor
    is_flags = name in StepFlags._fields
    check = tf.debugging.assert_equal(
        tf.shape(tensor),
        tf.stack([*shape]),
        f"{name} must have the shape {'[batch, time]' if is_flags else '[batch, size]'} of "
        f"the inputs{hint}. Below, x is its shape, and y is the expected shape:",
    )
    with tf.control_dependencies([check]):
        # Without the identity, TensorFlow would optimise the stack and the check away.
        tensor = tf.identity(tensor)
        # XLA drops the check, but it refuses to stack tensors of different shapes.
        name = "".join(c if c.isalnum() else "_" for c in name)
        like_it = tf.zeros([*shape], tensor.dtype)
        tensor = tf.stack([tensor, like_it], name=f"{name}_must_have_the_shape_of_the_other")[0]
    # Not tf.ensure_shape, because it has no forward-mode derivative if a size is unknown.
    tensor.set_shape(static)
    return tensor
