# SPDX-License-Identifier: MIT
"""`tf.vectorized_map` and `jacobian` over the native ops: one larger op in place of a loop.

TensorFlow has no public way to say how an op is vectorized, so this uses a private one. Without it,
TensorFlow would run the loop, and warn.
"""

from typing import Any

import tensorflow as tf
from tensorflow.python.ops.parallel_for.pfor import wrap

from tf_plr import _library
from tf_plr._registration import register_vectorization
from tf_plr.recurrence import attributes_of


@register_vectorization("TfPlr>LinearRecurrence")
def _linear_recurrence(pfor_input: Any) -> Any:
    (decays, impulses, *initial_state), attributes = _stacked(pfor_input)
    states = _library.load_library().tf_plr_linear_recurrence(
        decays, impulses, initial_state, **attributes
    )
    return wrap(states, True)


@register_vectorization("TfPlr>LinearRecurrenceGrad")
def _linear_recurrence_grad(pfor_input: Any) -> list[Any]:
    (decays, states, d_states, *columns), attributes = _stacked(pfor_input)
    count = pfor_input.op.get_attr("num_initial_states")
    d_decays, d_impulses, d_initial_state = _library.load_library().tf_plr_linear_recurrence_grad(
        decays, states, d_states, columns[:count], columns[count:], **attributes
    )
    return [wrap(gradient, True) for gradient in (d_decays, d_impulses, *d_initial_state)]


@register_vectorization("TfPlr>GatedRecurrence")
def _gated_recurrence(pfor_input: Any) -> list[Any]:
    inputs = _GatedInputs(pfor_input)
    result = _library.load_library().tf_plr_gated_recurrence(
        *inputs.common, num_states=pfor_input.op.get_attr("num_states"), **inputs.attributes
    )
    narrow = [inputs.unfold(output) for output in (result.outputs, *result.states)]
    outputs = [*(tf.cast(output, inputs.dtype) for output in narrow),
               inputs.unfold(result.last_state)]  # fmt: skip
    return [wrap(output, True) for output in outputs]


@register_vectorization("TfPlr>GatedRecurrenceGrad")
def _gated_recurrence_grad(pfor_input: Any) -> list[Any]:
    inputs = _GatedInputs(pfor_input)
    result = _library.load_library().tf_plr_gated_recurrence_grad(
        *inputs.common,
        *inputs.rest,
        num_d_beside=pfor_input.op.get_attr("num_d_beside"),
        **inputs.attributes,
    )
    d_product = inputs.unfold(result.d_product)
    sums = tf.reduce_sum(tf.cast(d_product, tf.float32), [1, 2])
    d_bias = [sums[:, : tf.shape(bias)[-1]] for bias in inputs.bias]
    narrow = [d_product, *d_bias, *(inputs.unfold(output) for output in result.d_beside)]
    outputs = [tf.cast(output, inputs.dtype) for output in narrow]
    outputs[1 : 1 + len(d_bias)] = d_bias
    return [wrap(output, True) for output in (*outputs, inputs.unfold(result.d_initial_state))]


@register_vectorization("TfPlr>CausalWindows")
def _causal_windows(pfor_input: Any) -> list[Any]:
    return _windows(pfor_input, _library.load_library().tf_plr_causal_windows)


@register_vectorization("TfPlr>CausalWindowsGrad")
def _causal_windows_grad(pfor_input: Any) -> list[Any]:
    return _windows(pfor_input, _library.load_library().tf_plr_causal_windows_grad)


def _windows(pfor_input: Any, function: Any) -> list[Any]:
    pfor_input.stack_inputs()
    inputs = [pfor_input.stacked_input(i) for i in range(pfor_input.num_inputs)]
    leading = tf.shape(inputs[0])[:2]
    first, second, *masks = [_fold(tensor) for tensor in inputs]
    outputs = function(first, second, masks, size=pfor_input.op.get_attr("size"))
    return [wrap(_unfold(output, leading), True) for output in outputs]


class _GatedInputs:
    """The inputs of all iterations of a gated op, as one larger batch.

    A bias that differs between iterations is added to the product, in float32; then so is all that
    has the product's dtype.
    """

    def __init__(self, pfor_input: Any) -> None:
        op = pfor_input.op
        self.dtype = op.inputs[0].dtype
        counts = [
            op.get_attr(f"num_{name}") for name in ("biases", "beside", "initial_states", "masks")
        ]
        bias_inputs = range(1, 1 + counts[0])
        of_one = [not pfor_input.input(i)[1] for i in bias_inputs]
        pfor_input.stack_inputs([i for i in range(pfor_input.num_inputs) if i not in bias_inputs])
        product = pfor_input.stacked_input(0)
        self._leading = tf.shape(product)[:2]
        self.bias = [pfor_input.input(i)[0] for i in bias_inputs]
        others = [pfor_input.stacked_input(i) for i in range(1 + counts[0], pfor_input.num_inputs)]
        biases = self.bias
        if self.bias and not all(of_one):
            biases = []
            filling = [[0, 0], [0, tf.shape(product)[-1] - tf.shape(self.bias[0])[-1]]]
            product = tf.cast(product, tf.float32)
            product += tf.pad(self.bias[0], filling)[:, None, None]
            others = [tf.cast(t, tf.float32) if t.dtype == self.dtype else t for t in others]
        folded = iter([_fold(tensor) for tensor in others])
        lists = [[next(folded) for _ in range(count)] for count in counts[1:]]
        self.common = [_fold(product), biases, *lists]
        self.rest = list(folded)
        self.attributes = {
            name: op.get_attr(name) for name in ("cell", "blocks", "hold", "reverse", "algorithm")
        }

    def unfold(self, tensor: Any) -> Any:
        return _unfold(tensor, self._leading)


def _fold(tensor: Any) -> Any:
    """The batches of all iterations as one."""
    shape = tf.shape(tensor)
    return tf.reshape(tensor, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))


def _unfold(tensor: Any, leading: Any) -> Any:
    """Undoes that; leading: how many iterations, of batches how large."""
    return tf.reshape(tensor, tf.concat([leading, tf.shape(tensor)[1:]], 0))


def _stacked(pfor_input: Any) -> tuple[list[Any], dict[str, Any]]:
    """The inputs of all iterations, which are one problem with one more axis in front."""
    pfor_input.stack_inputs()
    inputs = [pfor_input.stacked_input(i) for i in range(pfor_input.num_inputs)]
    attributes = attributes_of(pfor_input.op)
    if attributes["axis"] >= 0:
        attributes["axis"] += 1
    return inputs, attributes
