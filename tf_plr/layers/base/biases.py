# SPDX-License-Identifier: MIT
"""The initial values of the gates' biases."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tf_plr._types import Tensor


def initial_bias(
    blocks: Sequence[str],
    forget_block: str | None,
    starts: dict[str, Any],
    initializer: Any,
    shape: tuple[int, ...],
    dtype: Any,
) -> Tensor:
    """Returns the initial biases of all blocks as one vector.

    Args:
        blocks: Names of the blocks, in order.
        forget_block: Name of the block that "coupled" and "normalized" refer to.
        starts: Maps the name of a block to (name of the argument, its value). The value is a
            number, an initializer, "coupled" or "normalized".
        initializer: Initializer of all other blocks.
        shape: Shape of the whole vector.
        dtype: Dtype of the vector.
    """
    # One call for all blocks: an initializer returns the same values for each call of one shape.
    bias = _values("bias_initializer", initializer, shape, dtype)
    parts = dict(zip(blocks, ops.split(bias, len(blocks)), strict=True))
    for block, (name, start) in starts.items():
        of_one = parts[block].shape
        if start == "coupled":
            parts[block] = -parts[str(forget_block)]
        elif start == "normalized":
            parts[block] = _normalizing_bias(parts[str(forget_block)])
        elif callable(start):
            parts[block] = _values(name, start, of_one, dtype)
        else:
            parts[block] = ops.full(of_one, start, dtype=dtype)
    return ops.concatenate(list(parts.values()))


def _values(name: str, initializer: Any, shape: Sequence[int], dtype: Any) -> Tensor:
    values = ops.cast(initializer(tuple(shape), dtype=dtype), dtype)
    if tuple(values.shape) != tuple(shape):
        raise ValueError(
            f"{name} must be an initializer that gives shape {tuple(shape)} for shape "
            f"{tuple(shape)}, but gave {tuple(values.shape)}"
        )
    return values


def _normalizing_bias(forget_bias: Tensor) -> Tensor:
    """Returns the bias b for which i^2 = 1 - f^2, where i = sigmoid(b), f = sigmoid(forget_bias).

    This computes logarithms, because f, 1 - f or 1 - i may underflow. It uses
    i^2 = (1 - f) (1 + f) and 1 - i = f^2 / (1 + i).
    """
    log_f, log_complement = -ops.softplus(-forget_bias), -ops.softplus(forget_bias)
    log_i = (log_complement + ops.log1p(ops.exp(log_f))) / 2
    return log_i - (2 * log_f - ops.log1p(ops.exp(log_i)))


def serialize_bias(bias: Any) -> Any:
    """A number or an initializer as `get_config` returns it."""
    return keras.initializers.serialize(bias) if callable(bias) else bias
