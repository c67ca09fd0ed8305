# SPDX-License-Identifier: MIT
"""`tf.vectorized_map` and `jacobian` over the native ops: one larger op in place of a loop.

TensorFlow has no public way to say how an op is vectorized, so this uses a private one. Without it,
TensorFlow would run the loop, and warn.
"""

from typing import Any

import tensorflow as tf
from tensorflow.python.ops.parallel_for.pfor import wrap

from tf_plr._native import call, register_vectorization
from tf_plr._ops.gated_recurrence import GatedInputs, gated_options_of, parts_of
from tf_plr._ops.layer_normalization import (
    composed_gradients,
    composed_layer_normalization,
    normalize,
)
from tf_plr._ops.linear_recurrence import attributes_of
from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import Tensor


@register_vectorization("LinearRecurrence")
def _linear_recurrence(pfor_input: Any) -> Any:
    flags, (decays, impulses, *initial_state), attributes = _stack(pfor_input)
    inputs = {"decays": decays, "impulses": impulses, "initial_state": initial_state, **flags}
    return wrap(call("LinearRecurrence", inputs, **attributes), True)


@register_vectorization("LinearRecurrenceGrad")
def _linear_recurrence_grad(pfor_input: Any) -> list[Any]:
    flags, (decays, states, d_states, *columns), attributes = _stack(pfor_input)
    count = pfor_input.op.get_attr("num_initial_states")
    inputs = {
        "decays": decays,
        "states": states,
        "d_states": d_states,
        "initial_state": columns[:count],
        "d_last_state": columns[count:],
        **flags,
    }
    result = call("LinearRecurrenceGrad", inputs, **attributes)
    gradients = (result.d_decays, result.d_impulses, *result.d_initial_state)
    return [wrap(gradient, True) for gradient in gradients]


@register_vectorization("GatedRecurrence")
def _gated_recurrence(pfor_input: Any) -> list[Any]:
    stacked = _StackedGatedInputs(pfor_input)
    states = pfor_input.op.get_attr("num_states")
    inputs = stacked.inputs._asdict()
    result = call("GatedRecurrence", inputs, num_states=states, **stacked.attributes)
    narrow = [stacked.unfold(output) for output in (result.outputs, *result.states)]
    outputs = [tf.cast(output, stacked.dtype) for output in narrow]
    return [wrap(output, True) for output in (*outputs, stacked.unfold(result.last_state))]


@register_vectorization("GatedRecurrenceGrad")
def _gated_recurrence_grad(pfor_input: Any) -> list[Any]:
    stacked = _StackedGatedInputs(pfor_input)
    inputs = {
        **stacked.inputs._asdict(),
        **dict(zip(("states", "d_outputs", "d_last_state"), stacked.rest, strict=True)),
    }
    result = call("GatedRecurrenceGrad", inputs, **stacked.attributes)
    d_product = stacked.unfold(result.d_product)
    sums = tf.reduce_sum(tf.cast(d_product, tf.float32), [1, 2])
    d_bias = [sums[:, : tf.shape(bias)[-1]] for bias in stacked.bias]
    d_highway = [tf.cast(stacked.unfold(gradient), stacked.dtype) for gradient in result.d_highway]
    d_initial_state = stacked.unfold(result.d_initial_state)
    gradients = [tf.cast(d_product, stacked.dtype), *d_bias, *d_highway, d_initial_state]
    return [wrap(gradient, True) for gradient in gradients]


@register_vectorization("CausalWindows")
def _causal_windows(pfor_input: Any) -> list[Any]:
    return _windows(pfor_input, "CausalWindows", ("inputs", "history"))


@register_vectorization("CausalWindowsGrad")
def _causal_windows_grad(pfor_input: Any) -> list[Any]:
    return _windows(pfor_input, "CausalWindowsGrad", ("d_windows", "d_last_history"))


def _windows(pfor_input: Any, op: str, names: tuple[str, str]) -> list[Any]:
    pfor_input.stack_inputs()
    tensors = [pfor_input.stacked_input(i) for i in range(pfor_input.num_inputs)]
    leading = tf.shape(tensors[0])[:2]
    flags, (first, second) = _split_flags(pfor_input.op, [_fold(tensor) for tensor in tensors])
    inputs = {names[0]: first, names[1]: second, **flags}
    outputs = call(op, inputs, size=pfor_input.op.get_attr("size"))
    return [wrap(_unfold(output, leading), True) for output in outputs]


@register_vectorization("LayerNormalization")
def _layer_normalization(pfor_input: Any) -> list[Any]:
    (inputs, *vectors), epsilon = _stacked_rows(pfor_input, vectors=(1, 2))
    scale, bias = (*vectors, None)[:2]
    wide = tf.cast(inputs, tf.float32)
    outputs = composed_layer_normalization(wide, scale, bias, epsilon)
    _, statistics = normalize(wide, epsilon)
    return [wrap(tf.cast(outputs, inputs.dtype), True), wrap(statistics, True)]


@register_vectorization("LayerNormalizationGrad")
def _layer_normalization_grad(pfor_input: Any) -> list[Any]:
    (inputs, scale, _, d_outputs), epsilon = _stacked_rows(pfor_input, vectors=(1,))
    gradients = composed_gradients(inputs, scale, d_outputs, epsilon, batch_axes=1)
    return [wrap(gradient, True) for gradient in gradients[: len(pfor_input.op.outputs)]]


def _stacked_rows(pfor_input: Any, vectors: tuple[int, ...]) -> tuple[list[Tensor], float]:
    """Returns the inputs of all iterations, and epsilon.

    The native ops take one scale for all rows, so TensorFlow's own ops take their place. `vectors`
    are the numbers of inputs that get a shape that broadcasts to the rows.
    """
    pfor_input.stack_inputs()
    tensors = [pfor_input.stacked_input(i) for i in range(pfor_input.num_inputs)]
    shape = tf.shape(tensors[0])
    ones = tf.ones([tf.rank(tensors[0]) - 2], tf.int32)
    for i in vectors[: len(tensors) - 1]:
        tensors[i] = tf.reshape(tensors[i], tf.concat([shape[:1], ones, shape[-1:]], 0))
    return tensors, pfor_input.op.get_attr("epsilon")


class _StackedGatedInputs:
    """The inputs of all iterations of a gated op, as one larger batch.

    If the bias differs between iterations, it is added to the product in float32. All inputs of the
    product's dtype are then cast to float32, too.
    """

    def __init__(self, pfor_input: Any) -> None:
        op = pfor_input.op
        self.attributes = {**parts_of(op)._asdict(), **gated_options_of(op)}
        self.dtype = op.inputs[0].dtype
        biases = range(1, 1 + op.get_attr("num_biases"))
        differ = any(pfor_input.input(i)[1] for i in biases)
        pfor_input.stack_inputs([i for i in range(pfor_input.num_inputs) if i not in biases])
        tensors = [
            pfor_input.input(i)[0] if i in biases else pfor_input.stacked_input(i)
            for i in range(pfor_input.num_inputs)
        ]
        product = tensors[0]
        self._leading = tf.shape(product)[:2]
        self.bias = [tensors[i] for i in biases]
        if differ:
            tensors = [tf.cast(t, tf.float32) if t.dtype == self.dtype else t for t in tensors]
            filling = [[0, 0], [0, tf.shape(product)[-1] - tf.shape(self.bias[0])[-1]]]
            tensors[0] += tf.pad(self.bias[0], filling)[:, None, None]
        folded = [t if i in biases else _fold(t) for i, t in enumerate(tensors)]
        self.inputs, self.rest = GatedInputs.split(op, folded)
        if differ:
            self.inputs = self.inputs._replace(bias=[])

    def unfold(self, tensor: Tensor) -> Tensor:
        return _unfold(tensor, self._leading)


def _fold(tensor: Tensor) -> Tensor:
    """Merges the batches of all iterations into one."""
    shape = tf.shape(tensor)
    return tf.reshape(tensor, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))


def _unfold(tensor: Tensor, leading: Tensor) -> Tensor:
    """Undoes `_fold`. `leading` is [number of iterations, batch size of each]."""
    return tf.reshape(tensor, tf.concat([leading, tf.shape(tensor)[1:]], 0))


def _stack(pfor_input: Any) -> tuple[dict[str, Any], list[Tensor], dict[str, Any]]:
    """The flags, other inputs and attributes of one call for all iterations.

    Tensors have a new first axis.
    """
    pfor_input.stack_inputs()
    inputs = [pfor_input.stacked_input(i) for i in range(pfor_input.num_inputs)]
    flags, inputs = _split_flags(pfor_input.op, inputs)
    attributes = attributes_of(pfor_input.op)
    if attributes["axis"] >= 0:
        attributes["axis"] += 1
    return flags, inputs, attributes


def _split_flags(op: Any, inputs: list[Tensor]) -> tuple[dict[str, Any], list[Tensor]]:
    flags, others = StepFlags.split(op, inputs)
    return flags.as_inputs(), others
