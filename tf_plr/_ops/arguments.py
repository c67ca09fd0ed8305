# SPDX-License-Identifier: MIT
"""The dtypes of the ops, and checks of their arguments; each error names the argument."""

import operator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_plr._types import Tensor

GATED_DTYPES = ("float16", "bfloat16", "float32")  # Of the fused op and the windows.
DTYPES = (*GATED_DTYPES, "float64", "complex64", "complex128")


def as_list(tensor: Tensor) -> list[Tensor]:
    """Returns an optional input as the native ops take it: as a list of at most one tensor."""
    return [] if tensor is None else [tensor]


def non_negative_axis(axis: int, *tensors: Tensor) -> int:
    """Returns the axis as a number >= 0, or unchanged if no rank is known or it is out of range."""
    if axis >= 0:
        return axis
    for tensor in tensors:
        shape = getattr(tensor, "shape", None)
        rank = getattr(shape, "rank", None) if tf.is_tensor(tensor) else _rank_of(tensor)
        if rank is not None and -rank <= axis:
            return axis % rank
    return axis


def _rank_of(value: Any) -> int | None:
    try:
        return np.ndim(value)
    except (TypeError, ValueError):
        return None


def checked_arguments(
    decays: Tensor, impulses: Tensor, initial_state: Tensor, axis: int, *, needs_rank: bool = False
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Returns the arguments as tensors, and a non-negative axis; raises an error for wrong ones."""
    # As in TensorFlow's own ops, Python and NumPy values take the dtype of the first tensor.
    given = [value for value in (decays, impulses, initial_state) if tf.is_tensor(value)]
    dtype = given[0].dtype if given else None
    decays = _as_tensor("decays", decays, dtype)
    impulses = _as_tensor("impulses", impulses, dtype or decays.dtype)
    _check_dtype("impulses", impulses, decays)
    steps_shape = shape_of_steps(decays.shape, impulses.shape)
    if steps_shape is None:
        raise ValueError(
            "decays must have the shape of impulses, or size 1 on axes where they differ, but "
            f"decays has shape {decays.shape} and impulses has shape {impulses.shape}"
        )
    rank = steps_shape.rank
    if rank == 0:
        raise ValueError("decays and impulses must have at least one axis, but are scalars")
    if needs_rank and rank is not None and impulses.shape.rank is None:
        impulses = tf.ensure_shape(impulses, steps_shape, name="impulses_have_the_rank_of_decays")
    if rank is None:
        if needs_rank:
            raise ValueError(
                "decays or impulses must have a known rank: only the native op runs without one"
            )
    elif not -rank <= axis < rank:
        raise ValueError(
            f"axis must be in [{-rank}, {rank}) for tensors of rank {rank}, but is {axis}"
        )
    else:
        axis %= rank
    if initial_state is not None:
        initial_state = _as_tensor("initial_state", initial_state, decays.dtype)
        _check_dtype("initial_state", initial_state, decays)
        if rank is not None:
            expected = steps_shape[:axis].concatenate(steps_shape[axis + 1 :])
            if not expected.is_compatible_with(initial_state.shape):
                raise ValueError(
                    f"initial_state must have the shape of impulses without axis {axis}, "
                    f"{expected}, but has shape {initial_state.shape}"
                )
    return decays, impulses, initial_state, axis


def shape_of_steps(decays: tf.TensorShape, impulses: tf.TensorShape) -> tf.TensorShape | None:
    """What is known of the shape of impulses, or None if decays do not broadcast to it."""
    if decays.rank is None:
        return impulses
    unless_broadcast = tf.TensorShape([None if size == 1 else size for size in decays])
    if not unless_broadcast.is_compatible_with(impulses):
        return None
    return impulses.merge_with(unless_broadcast)


def as_index(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, but is {value!r}") from None


def _as_tensor(name: str, value: Any, dtype: Any) -> Tensor:
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor, tf.IndexedSlices)):
        raise TypeError(f"{name} must be a dense tensor, but is a {type(value).__name__}")
    try:
        tensor = tf.convert_to_tensor(value, dtype, name=name)
    except (TypeError, ValueError):
        try:
            tensor = tf.convert_to_tensor(value, name=name)  # Checks below reject its dtype.
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} must be a tensor, but: {error}") from None
    if tensor.dtype.name not in DTYPES:
        raise TypeError(f"{name} must have a dtype among {DTYPES}, but has {tensor.dtype.name}")
    return tensor


def _check_dtype(name: str, tensor: Tensor, decays: Tensor) -> None:
    if tensor.dtype != decays.dtype:
        raise TypeError(
            f"{name} must have the dtype of decays, {decays.dtype.name}, "
            f"but has {tensor.dtype.name}"
        )
