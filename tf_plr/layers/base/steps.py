# SPDX-License-Identifier: MIT
"""The interface between a cell and time.

A cell is written once, against `Steps`. With `OneStep`, it runs as an ordinary recurrent cell; with
`AllSteps`, as a layer that is parallel over time.
"""

from abc import ABC, abstractmethod
from typing import Any

import tensorflow as tf
from keras import ops, random

from tf_plr._ops.gated_recurrence import gated_recurrence
from tf_plr._types import Tensor


class Steps(ABC):
    """One step, or all steps at once.

    In the shapes below, `...` is `[batch]` for one step and `[batch, time]` for all. All steps may
    include masked ones, and the first steps of new sequences: see the call arguments `mask` and
    `resets` of `LinearRecurrentLayer`. The methods take both into account.
    """

    # Whether `gated`, and the windows of `convolve`, may run as native ops.
    fuses: bool = False
    # Whether `gated` takes a state activation.
    fuses_state_activations: bool = True

    @abstractmethod
    def recur(
        self, decays: Tensor, impulses: Tensor, state: Tensor, *, is_output: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Computes the recurrence in the dtype of `state`.

        Args:
            decays: [..., n], or a shape that broadcasts to it: [n], one decay for each unit; or
                [batch, n], the same decays at every step. Any of these sizes may also be 1.
            impulses: [..., n].
            state: [batch, n], before the first step.
            is_output: Whether the cell returns these states unchanged as its output, and `state` is
                one that the cell's own `recur` received. Masks are then applied at no cost.

        Returns:
            The states after each step, [..., n], and the last one, [batch, n].

        Raises:
            TypeError: `decays` or `impulses` are complex, but `state` is not.
            ValueError: `decays` do not broadcast to the shape of `impulses`.
        """

    def gated(
        self, product: Tensor, state: Tensor, *, is_output: bool = False, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Runs the fused op with the arguments `options`."""
        raise NotImplementedError

    @abstractmethod
    def previous(self, states: Tensor, state: Tensor) -> Tensor:
        """The states before each step, [..., n]: `state`, then all but the last of `states`.

        Zeros before the first step of a new sequence.
        """

    @abstractmethod
    def convolve(self, inputs: Tensor, kernel: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Computes a causal convolution.

        Args:
            inputs: [..., input_dim].
            kernel: [size, input_dim, filters], oldest input first; size >= 2.
            history: [batch, (size - 1) * input_dim], the inputs before the first step.

        Returns:
            The products, [..., filters], and the last history.
        """

    @abstractmethod
    def drop(self, inputs: Tensor, rate: float, seed: Any) -> Tensor:
        """The inputs with features dropped: over all steps, the same features at each of them."""


class OneStep(Steps):
    """One step of a cell on its own."""

    def __init__(self, fuses: bool = True):
        self.fuses = fuses

    def recur(
        self, decays: Tensor, impulses: Tensor, state: Tensor, *, is_output: bool = False
    ) -> tuple[Tensor, Tensor]:
        decays, impulses = operands_of_recur(decays, impulses, state.dtype)
        state = decays * state + impulses
        return state, state

    def gated(
        self, product: Tensor, state: Tensor, *, is_output: bool = False, **options: Any
    ) -> tuple[Tensor, Tensor]:
        for name in ("highway", "prefix"):
            if options[name] is not None:
                options[name] = ops.expand_dims(options[name], 1)
        outputs, last = gated_recurrence(
            ops.expand_dims(product, 1), initial_state=state, mask=None, algorithm="auto", **options
        )
        return ops.squeeze(outputs, 1), last

    def previous(self, states: Tensor, state: Tensor) -> Tensor:
        return state

    def convolve(self, inputs: Tensor, kernel: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        size, input_dim, filters = kernel.shape
        window = ops.concatenate([ops.cast(history, inputs.dtype), inputs], axis=-1)
        product = ops.matmul(window, ops.reshape(kernel, (size * input_dim, filters)))
        return product, ops.cast(window[:, input_dim:], history.dtype)

    def drop(self, inputs: Tensor, rate: float, seed: Any) -> Tensor:
        return random.dropout(inputs, rate, seed=seed)


def operands_of_recur(decays: Tensor, impulses: Tensor, dtype: Any) -> tuple[Tensor, Tensor]:
    """Casts both to `dtype`, and checks that decays broadcast to the shape of impulses."""
    for name, operand in (("decays", decays), ("impulses", impulses)):
        if tf.as_dtype(operand.dtype).is_complex and not tf.as_dtype(dtype).is_complex:
            raise TypeError(
                f"{name} are {tf.as_dtype(operand.dtype).name}, but the cell's state is "
                f"{tf.as_dtype(dtype).name}: set state_dtype in the cell"
            )
    decays, impulses = ops.cast(decays, dtype), ops.cast(impulses, dtype)
    try:
        shape = tf.broadcast_static_shape(decays.shape, impulses.shape)
    except ValueError:
        shape = None
    if shape is None or not shape.is_compatible_with(impulses.shape):
        raise ValueError(
            "decays must have the shape of impulses, or broadcast to it, but have shape "
            f"{tuple(decays.shape)}, and impulses have shape {tuple(impulses.shape)}"
        )
    return decays, impulses
