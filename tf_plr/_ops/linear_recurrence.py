# SPDX-License-Identifier: MIT
"""The op: `linear_recurrence` and its derivatives."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_plr._native import call, choice, register_gradient
from tf_plr._ops.arguments import (
    as_index,
    as_list,
    checked_arguments,
    non_negative_axis,
    shape_of_steps,
)
from tf_plr._ops.composed import composed_linear_recurrence
from tf_plr._ops.step_flags import StepFlags
from tf_plr._ops.time_axis import TimeAxis, gradient_of_gradient
from tf_plr._types import ALGORITHMS, Algorithm, Tensor, uses_stock_ops


def linear_recurrence(
    decays: Tensor,
    impulses: Tensor,
    initial_state: Tensor = None,
    *,
    axis: int = 0,
    reverse: bool = False,
    algorithm: Algorithm = "auto",
) -> Tensor:
    """Computes a linear recurrence along one axis, in parallel.

    ```
    states[t] = decays[t] * states[t - 1] + impulses[t],    states[-1] = initial_state
    ```

    elementwise over all other axes. It has derivatives of any order. 16-bit types are accumulated
    in float32. Called on symbolic Keras tensors, it adds a node to a functional model.

    Source: Martin and Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence Length*,
    ICLR 2018, section 2 (https://arxiv.org/abs/1709.04057).

    Example:

    >>> tf_plr.linear_recurrence([0.5, 0.5, 0.5], [1.0, 1.0, 1.0]).numpy()
    array([1.  , 1.5 , 1.75], dtype=float32)

    The same decay at all steps:

    >>> tf_plr.linear_recurrence([0.5], [1.0, 1.0, 1.0]).numpy()
    array([1.  , 1.5 , 1.75], dtype=float32)

    Args:
        decays: Tensor of the dtype and rank of `impulses`. On each axis, it has the size of
            `impulses`, or size 1: these decays then hold for the whole axis. The native op does not
            write them out in the shape of `impulses`.
        impulses: float16, bfloat16, float32, float64, complex64 or complex128 tensor of rank 1 or
            higher. Sizes may be 0.
        initial_state: Tensor of the dtype of `impulses`, and of its shape without `axis`. None:
            zeros.
        axis: The axis of time, from `-rank` to `rank - 1`. No axis needs a transposition.
        reverse: Whether to run from the end of the axis to its start.
        algorithm: `"serial"` walks through time, in parallel over columns. `"parallel"` also splits
            time, and multiplies the decays of many steps; if many decays exceed 1, such a product
            may overflow although the states do not. (`"serial"` multiplies those of neighbouring
            steps only, at most 16 on a CPU.) `"auto"` chooses between the two by shape.
            `"composed"` uses only stock TensorFlow ops. It is slower, but the graph runs without
            tf_plr, wherever TensorFlow's own ops do (under XLA, the number of steps must be known).

    Returns:
        The states after each step: a tensor of the shape and dtype of `impulses`.

    Raises:
        TypeError: dtypes that differ or are not supported; ragged or sparse tensors.
        ValueError: shapes that do not fit, an axis out of range, an unknown algorithm.
        tf.errors.InvalidArgumentError: the same, if shapes are known only when the graph runs.
        ImportError: the native library is missing, or was built for another TensorFlow and the
            portable one cannot take its place.
    """
    axis = as_index("axis", axis)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {ALGORITHMS}, but is {algorithm!r}")
    if not isinstance(reverse, (bool, np.bool_)):
        raise TypeError(f"reverse must be True or False, but is {reverse!r}")
    reverse = bool(reverse)
    given = (decays, impulses, initial_state)
    symbols = [a for a in given if isinstance(a, keras.KerasTensor)]
    if symbols:
        # Python and NumPy values take the dtype of the first Keras tensor.
        convertible = [
            a
            if a is None or isinstance(a, keras.KerasTensor) or tf.is_tensor(a)
            else tf.convert_to_tensor(a, symbols[0].dtype)
            for a in given
        ]
        operation = LinearRecurrence(axis=axis, reverse=reverse, algorithm=algorithm)
        return operation(*convertible)
    # Resolve a negative axis now: gradient functions may see unknown ranks.
    axis = non_negative_axis(axis, decays, impulses)
    if uses_stock_ops(algorithm):
        every = checked_arguments(decays, impulses, initial_state, axis, needs_rank=True)
        return composed_linear_recurrence(*every, reverse=reverse)
    if choice().needs_ranks:
        *arguments, axis = checked_arguments(decays, impulses, initial_state, axis, needs_rank=True)
        states = _run(*arguments, axis=axis, reverse=reverse, algorithm=algorithm)
        return tf.ensure_shape(states, shape_of_steps(arguments[0].shape, arguments[1].shape))
    try:
        return _run(
            decays, impulses, initial_state, axis=axis, reverse=reverse, algorithm=algorithm
        )
    except Exception:
        # The native op failed. If the checks find the mistake, their error names the argument.
        checked_arguments(decays, impulses, initial_state, axis)
        raise


def _run(
    decays: Tensor,
    impulses: Tensor,
    initial_state: Tensor,
    flags: StepFlags = StepFlags(),  # noqa: B008
    **attributes: Any,
) -> Tensor:
    inputs = {"decays": decays, "impulses": impulses, "initial_state": as_list(initial_state)}
    return call("LinearRecurrence", {**inputs, **flags.as_inputs()}, **attributes)


def linear_recurrence_of_steps(
    decays: Tensor,
    impulses: Tensor,
    initial_state: Tensor,
    flags: StepFlags,
    *,
    axis: int,
    algorithm: Algorithm,
) -> Tensor:
    """`linear_recurrence` for layers: steps may have flags."""
    if not flags:
        return linear_recurrence(decays, impulses, initial_state, axis=axis, algorithm=algorithm)
    decays, impulses, initial_state, axis = checked_arguments(
        decays, impulses, initial_state, axis, needs_rank=True
    )
    if uses_stock_ops(algorithm):
        return composed_linear_recurrence(
            decays, impulses, initial_state, axis, reverse=False, flags=flags
        )
    states = _run(
        decays, impulses, initial_state, flags, axis=axis, reverse=False, algorithm=algorithm
    )
    return tf.ensure_shape(states, shape_of_steps(decays.shape, impulses.shape))


@keras.saving.register_keras_serializable(package="tf_plr")
class LinearRecurrence(keras.Operation):
    """`linear_recurrence` as a node of a functional Keras model."""

    def __init__(
        self, *, axis: int, reverse: bool, algorithm: Algorithm, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.axis = axis
        self.reverse = reverse
        self.algorithm = algorithm

    def call(self, decays: Tensor, impulses: Tensor, initial_state: Tensor = None) -> Tensor:
        return linear_recurrence(
            decays,
            impulses,
            initial_state,
            axis=self.axis,
            reverse=self.reverse,
            algorithm=self.algorithm,
        )

    def compute_output_spec(
        self, decays: Tensor, impulses: Tensor, initial_state: Tensor = None
    ) -> Any:
        given = [a for a in (decays, impulses, initial_state) if a is not None]
        traced = tf.function(self.call).get_concrete_function(
            *(tf.TensorSpec(a.shape, a.dtype) for a in given)
        )
        return keras.KerasTensor(tuple(traced.output_shapes), traced.output_dtypes.name)

    def get_config(self) -> dict[str, Any]:
        return {
            "axis": self.axis,
            "reverse": self.reverse,
            "algorithm": self.algorithm,
            "name": self.name,
        }


@register_gradient("LinearRecurrence")
def _gradient(op: Any, d_states: Tensor) -> list[Tensor]:
    flags, (decays, _, *initial_state) = StepFlags.split(op)
    inputs = {
        "decays": decays,
        "states": op.outputs[0],
        "d_states": d_states,
        "initial_state": initial_state,
        "d_last_state": [],
        **flags.as_inputs(),
    }
    result = call("LinearRecurrenceGrad", inputs, **attributes_of(op))
    return [result.d_decays, result.d_impulses, *result.d_initial_state, *flags.gradients()]


@register_gradient("LinearRecurrenceGrad")
def _second_gradient(
    op: Any, u_decays: Tensor, u_impulses: Tensor, *u_initial_state: Tensor
) -> list[Tensor]:
    """The gradient of the gradient op. It uses the same two ops, so it has one of any order."""
    flags, (decays, states, _, *columns) = StepFlags.split(op)
    count = op.get_attr("num_initial_states")
    initial_state, d_last_state = columns[:count], columns[count:]
    attributes = attributes_of(op)
    time = TimeAxis(attributes["axis"], attributes["reverse"])
    previous_states = time.previous(states, initial_state[0] if initial_state else None)
    impulses = u_decays * flags.within_sequence(previous_states) + u_impulses
    u_initial = u_initial_state[0] if initial_state else None
    s = _run(decays, impulses, u_initial, flags, **attributes)
    previous_s = flags.within_sequence(time.previous(s, u_initial))
    d_decays, d_states, d_initial_state = gradient_of_gradient(
        time, op.outputs[1], u_decays, previous_s, flags
    )
    d_decays = _sum_to_shape_of(decays, d_decays)
    d_columns = [d_initial_state] if initial_state else []
    d_last_states = [time.last(s) for _ in d_last_state]
    return [d_decays, d_states, s, *d_columns, *d_last_states, *flags.gradients()]


def _sum_to_shape_of(decays: Tensor, d_steps: Tensor) -> Tensor:
    """Sums the gradient of each step over the axes on which decays are broadcast."""
    if decays.shape.is_fully_defined():
        axes = [axis for axis, size in enumerate(decays.shape) if size == 1]
    else:
        args = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(decays), s1=tf.shape(d_steps))
        axes = args.r0
    wide = tf.cast(d_steps, tf.float32) if decays.dtype.size == 2 else d_steps
    return tf.cast(tf.reshape(tf.reduce_sum(wide, axes), tf.shape(decays)), decays.dtype)


def attributes_of(op: Any) -> dict[str, Any]:
    """The attributes of a native op, as keyword arguments."""
    return {
        "axis": op.get_attr("axis"),
        "reverse": bool(op.get_attr("reverse")),
        "algorithm": tf.compat.as_str(op.get_attr("algorithm")),
    }
