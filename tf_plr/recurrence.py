# SPDX-License-Identifier: MIT
"""The op: `linear_recurrence` and its derivatives."""

import operator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_plr import _library, portable
from tf_plr._registration import register_gradient
from tf_plr.composed import composed_linear_recurrence
from tf_plr.time_axis import TimeAxis, gradient_of_gradient

ALGORITHMS = ("auto", "parallel", "serial", "composed")
DTYPES = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


def linear_recurrence(
    decays: Any,
    impulses: Any,
    initial_state: Any = None,
    *,
    axis: int = 0,
    reverse: bool = False,
    algorithm: str = "auto",
) -> Any:
    """Computes a linear recurrence along one axis, in parallel.

    ```
    states[t] = decays[t] * states[t - 1] + impulses[t],    states[-1] = initial_state
    ```

    elementwise over all other axes. It can be differentiated any number of times; in 16-bit
    types it is accumulated in float32. Of symbolic Keras tensors it makes a node of a functional
    model.

    Source: Martin and Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence Length*,
    ICLR 2018, section 2 (https://arxiv.org/abs/1709.04057).

    Example:

    >>> tf_plr.linear_recurrence([0.5, 0.5, 0.5], [1.0, 1.0, 1.0]).numpy()
    array([1.  , 1.5 , 1.75], dtype=float32)

    Args:
        decays: float16, bfloat16, float32, float64, complex64 or complex128 tensor of any rank
            from 1 and any size from 0.
        impulses: Tensor of the shape and dtype of `decays`.
        initial_state: Tensor of the dtype of `decays` and its shape without `axis`. None: zeros.
        axis: The axis of time, from `-rank` to `rank - 1`. No axis costs a transposition.
        reverse: Whether to run from the end of the axis to its start.
        algorithm: `"serial"` walks through time, in parallel over columns; `"parallel"` also
            splits time, combining products of decays, which may overflow where the states
            themselves do not if many decays exceed 1 (`"serial"` combines those of neighbouring
            steps only, at most 16 on a CPU); `"auto"` chooses between the two by shape;
            `"composed"` uses only stock TensorFlow ops: slower, but the graph runs wherever
            TensorFlow's own ops do, without tf_plr (under XLA with a known number of steps).

    Returns:
        The states after each step: a tensor of the shape and dtype of `decays`.

    Raises:
        TypeError: dtypes that differ or are not supported; ragged or sparse tensors.
        ValueError: shapes that differ, an axis out of range, an unknown algorithm.
        tf.errors.InvalidArgumentError: the same, where only the running graph knows the shapes.
        ImportError: the native library is missing, or was built for another TensorFlow and the
            portable one cannot take its place.
    """
    axis = _as_index("axis", axis)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {ALGORITHMS}, but is {algorithm!r}")
    if not isinstance(reverse, (bool, np.bool_)):
        raise TypeError(f"reverse must be True or False, but is {reverse!r}")
    reverse = bool(reverse)
    given = (decays, impulses, initial_state)
    symbols = [a for a in given if isinstance(a, keras.KerasTensor)]
    if symbols:
        # As in `checked`, Python and NumPy values take the dtype of what is beside them.
        convertible = [
            a
            if a is None or isinstance(a, keras.KerasTensor) or tf.is_tensor(a)
            else tf.convert_to_tensor(a, symbols[0].dtype)
            for a in given
        ]
        operation = LinearRecurrence(axis=axis, reverse=reverse, algorithm=algorithm)
        return operation(*convertible)
    # Where TensorFlow forgets ranks later, in derivatives, it need not know them.
    axis = _counted_from_the_first(axis, decays, impulses)
    if algorithm == "composed":
        arguments = checked(decays, impulses, initial_state, axis, algorithm)
        return composed_linear_recurrence(*arguments, reverse=reverse)
    if portable.takes_over():
        arguments = checked(decays, impulses, initial_state, axis, algorithm)
        return portable.linear_recurrence(*arguments, reverse=reverse, algorithm=algorithm)
    ops = _library.load_library()
    try:
        return ops.tf_plr_linear_recurrence(
            decays,
            impulses,
            [] if initial_state is None else [initial_state],
            axis=axis,
            reverse=reverse,
            algorithm=algorithm,
        )
    except Exception:
        # The native op has found the mistake; say it in the caller's words where that can be done.
        checked(decays, impulses, initial_state, axis, algorithm)
        raise


@keras.saving.register_keras_serializable(package="tf_plr")
class LinearRecurrence(keras.Operation):
    """`linear_recurrence` as a node of a functional Keras model."""

    def __init__(
        self, *, axis: int, reverse: bool, algorithm: str, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.axis = axis
        self.reverse = reverse
        self.algorithm = algorithm

    def call(self, decays: Any, impulses: Any, initial_state: Any = None) -> Any:
        return linear_recurrence(
            decays,
            impulses,
            initial_state,
            axis=self.axis,
            reverse=self.reverse,
            algorithm=self.algorithm,
        )

    def compute_output_spec(self, decays: Any, impulses: Any, initial_state: Any = None) -> Any:
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


def _counted_from_the_first(axis: int, *tensors: Any) -> int:
    """The axis as a number from 0 on, if a rank is known and it has that axis."""
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


def checked(
    decays: Any, impulses: Any, initial_state: Any, axis: int, algorithm: str
) -> tuple[Any, Any, Any, int]:
    """Returns the first four as tensors and a non-negative axis, or raises what is wrong."""
    # As in TensorFlow's own ops, Python and NumPy values take the dtype of a tensor beside them.
    given = [value for value in (decays, impulses, initial_state) if tf.is_tensor(value)]
    dtype = given[0].dtype if given else None
    decays = _as_tensor("decays", decays, dtype)
    impulses = _as_tensor("impulses", impulses, dtype or decays.dtype)
    _check_dtype("impulses", impulses, decays)
    if not decays.shape.is_compatible_with(impulses.shape):
        raise ValueError(
            "decays and impulses must have the same shape, but decays has shape "
            f"{decays.shape} and impulses has shape {impulses.shape}"
        )
    rank = decays.shape.rank if decays.shape.rank is not None else impulses.shape.rank
    if rank == 0:
        raise ValueError("decays and impulses must have at least one axis, but are scalars")
    if rank is None:
        if algorithm == "composed" or portable.takes_over():
            raise ValueError(
                "decays or impulses must have a known rank: only the native op does without"
            )
    elif not -rank <= axis < rank:
        raise ValueError(f"axis must be in [{-rank}, {rank}) for tensors of rank {rank}, is {axis}")
    else:
        axis %= rank
    if initial_state is not None:
        initial_state = _as_tensor("initial_state", initial_state, decays.dtype)
        _check_dtype("initial_state", initial_state, decays)
        if rank is not None:
            steps_shape = decays.shape.merge_with(impulses.shape)
            expected = steps_shape[:axis].concatenate(steps_shape[axis + 1 :])
            if not expected.is_compatible_with(initial_state.shape):
                raise ValueError(
                    f"initial_state must have the shape of impulses without axis {axis}, "
                    f"{expected}, but has shape {initial_state.shape}"
                )
    return decays, impulses, initial_state, axis


def _as_index(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, but is {value!r}") from None


def _as_tensor(name: str, value: Any, dtype: Any) -> Any:
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor, tf.IndexedSlices)):
        raise TypeError(f"{name} must be a dense tensor, but is a {type(value).__name__}")
    try:
        tensor = tf.convert_to_tensor(value, dtype, name=name)
    except (TypeError, ValueError):
        try:
            tensor = tf.convert_to_tensor(value, name=name)  # Of a dtype to complain about.
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} must be a tensor, but: {error}") from None
    if tensor.dtype.name not in DTYPES:
        raise TypeError(f"{name} must have a dtype among {DTYPES}, but has {tensor.dtype.name}")
    return tensor


def _check_dtype(name: str, tensor: Any, decays: Any) -> None:
    if tensor.dtype != decays.dtype:
        raise TypeError(
            f"{name} must have the dtype of decays, {decays.dtype.name}, "
            f"but has {tensor.dtype.name}"
        )


@register_gradient("TfPlr>LinearRecurrence")
def _linear_recurrence_gradient(op: Any, d_states: Any) -> list[Any]:
    decays, _, *initial_state = op.inputs
    d_decays, d_impulses, d_initial_state = _library.load_library().tf_plr_linear_recurrence_grad(
        decays, op.outputs[0], d_states, initial_state, [], **attributes_of(op)
    )
    return [d_decays, d_impulses, *d_initial_state]


@register_gradient("TfPlr>LinearRecurrenceGrad")
def _linear_recurrence_grad_gradient(
    op: Any, u_decays: Any, u_impulses: Any, *u_initial_state: Any
) -> list[Any]:
    """The gradient op's own gradient, in the same two ops, so that any order follows."""
    decays, states, _, *columns = op.inputs
    count = op.get_attr("num_initial_states")
    initial_state, d_last_state = columns[:count], columns[count:]
    attributes = attributes_of(op)
    time = TimeAxis(attributes["axis"], attributes["reverse"])
    previous_states = time.previous(states, initial_state[0] if initial_state else None)
    s = _library.load_library().tf_plr_linear_recurrence(
        decays, u_decays * previous_states + u_impulses, list(u_initial_state), **attributes
    )
    previous_s = time.previous(s, u_initial_state[0] if initial_state else None)
    by_decays, by_states, by_initial_state = gradient_of_gradient(
        time, op.outputs[1], u_decays, previous_s
    )
    by_columns = [by_initial_state] if initial_state else []
    return [by_decays, by_states, s, *by_columns, *(time.last(s) for _ in d_last_state)]


def attributes_of(op: Any) -> dict[str, Any]:
    """The attributes of a native op, as keyword arguments."""
    return {name: op.get_attr(name) for name in ("axis", "reverse", "algorithm")}
