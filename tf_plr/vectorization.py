# SPDX-License-Identifier: MIT
"""`tf.vectorized_map` and `jacobian` over the native ops: one larger op in place of a loop.

TensorFlow has no public way to say how an op is vectorized; this is the one file that uses a
private one. Without it, TensorFlow would run the loop, and warn.
"""

from typing import Any

import tensorflow as tf
from tensorflow.python.ops.parallel_for.pfor import RegisterPFor, wrap

from tf_plr import _library
from tf_plr.recurrence import attributes_of


@RegisterPFor("TfPlr>LinearRecurrence")
def _linear_recurrence(pfor_input: Any) -> Any:
    (decays, impulses, *initial_state), attributes = _stacked(pfor_input)
    states = _library.load_library().tf_plr_linear_recurrence(
        decays, impulses, initial_state, **attributes
    )
    return wrap(states, True)


@RegisterPFor("TfPlr>LinearRecurrenceGrad")
def _linear_recurrence_grad(pfor_input: Any) -> list[Any]:
    (decays, states, d_states, *initial_state), attributes = _stacked(pfor_input)
    d_decays, d_impulses, d_initial_state = _library.load_library().tf_plr_linear_recurrence_grad(
        decays, states, d_states, initial_state, **attributes
    )
    return [wrap(gradient, True) for gradient in (d_decays, d_impulses, *d_initial_state)]


@RegisterPFor("TfPlr>GatedRecurrence")
def _gated_recurrence(pfor_input: Any) -> list[Any]:
    op, iterations = pfor_input.op, pfor_input.pfor.loop_len_vector[0]
    inputs = _GatedInputs(pfor_input, iterations)
    result = _library.load_library().tf_plr_gated_recurrence(
        *inputs.common,
        num_states=op.get_attr("num_states"),
        **inputs.attributes,
    )
    outputs = [result.outputs, *result.states, result.last_state]
    return [wrap(_unfold(output, iterations), True) for output in outputs]


@RegisterPFor("TfPlr>GatedRecurrenceGrad")
def _gated_recurrence_grad(pfor_input: Any) -> list[Any]:
    op, iterations = pfor_input.op, pfor_input.pfor.loop_len_vector[0]
    inputs = _GatedInputs(pfor_input, iterations)
    result = _library.load_library().tf_plr_gated_recurrence_grad(
        *inputs.common,
        *inputs.rest,
        num_d_beside=op.get_attr("num_d_beside"),
        **inputs.attributes,
    )
    d_product = _unfold(result.d_product, iterations)
    d_bias = [
        tf.reduce_sum(tf.cast(d_product, tf.float32), [1, 2])[:, : tf.shape(bias)[-1]]
        for bias in inputs.bias
    ]
    others = [*result.d_beside, result.d_initial_state]
    outputs = [d_product, *d_bias, *(_unfold(output, iterations) for output in others)]
    return [wrap(output, True) for output in outputs]


class _GatedInputs:
    """The inputs of all iterations of a gated op, as one larger batch.

    A bias may differ between iterations, but not within a batch: it is added to the product.
    """

    def __init__(self, pfor_input: Any, iterations: Any) -> None:
        op = pfor_input.op
        counts = [
            op.get_attr(f"num_{name}") for name in ("biases", "beside", "initial_states", "masks")
        ]
        pfor_input.stack_inputs()
        stacked = [pfor_input.stacked_input(i) for i in range(pfor_input.num_inputs)]
        product, bias = stacked[0], stacked[1 : 1 + counts[0]]
        self.bias = bias
        if bias:
            filling = [[0, 0], [0, product.shape[-1] - bias[0].shape[-1]]]
            product += tf.cast(tf.pad(bias[0], filling)[:, None, None], product.dtype)
        folded = [
            tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0))
            for tensor in (product, *stacked[1 + counts[0] :])
        ]
        rest = iter(folded[1:])
        lists = [[next(rest) for _ in range(count)] for count in counts[1:]]
        self.common = [folded[0], [], *lists]
        self.rest = list(rest)
        self.attributes = {
            name: op.get_attr(name) for name in ("cell", "blocks", "reverse", "algorithm")
        }


def _unfold(tensor: Any, iterations: Any) -> Any:
    shape = tf.concat([[iterations, -1], tf.shape(tensor)[1:]], 0)
    return tf.reshape(tensor, shape)


def _stacked(pfor_input: Any) -> tuple[list[Any], dict[str, Any]]:
    """The inputs of all iterations, which are one problem with one more axis in front."""
    pfor_input.stack_inputs()
    inputs = [pfor_input.stacked_input(i) for i in range(pfor_input.num_inputs)]
    attributes = attributes_of(pfor_input.op)
    if attributes["axis"] >= 0:
        attributes["axis"] += 1
    return inputs, attributes
