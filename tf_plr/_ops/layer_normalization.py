# SPDX-License-Identifier: MIT
"""Layer normalisation, as an op and in TensorFlow's own ops."""

from typing import Any

import tensorflow as tf

from tf_plr._native import call, register_gradient
from tf_plr._ops.arguments import as_list
from tf_plr._types import Tensor


def layer_normalization(inputs: Tensor, scale: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Normalises over the last axis: see the documentation of `TfPlr>LayerNormalization`.

    Args:
        inputs: [..., features], of one of `GATED_DTYPES`.
        scale: [features], float32.
        bias: [features], float32; or None.
        epsilon: Added to the variance.
    """
    named = {"inputs": inputs, "scale": scale, "bias": as_list(bias)}
    return call("LayerNormalization", named, epsilon=float(epsilon)).outputs


def composed_layer_normalization(
    inputs: Tensor, scale: Tensor, bias: Tensor, epsilon: float
) -> Tensor:
    """The same in TensorFlow's own ops. The tensors have one dtype, in which it computes.

    Does not call Keras' layer, because second derivatives of Keras' implementation are wrong.
    """
    normalized, _ = normalize(inputs, epsilon)
    return normalized * scale if bias is None else normalized * scale + bias


def normalize(inputs: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The normalised inputs, and the op's statistics."""
    mean = tf.reduce_mean(inputs, -1, keepdims=True)
    centered = inputs - mean
    variance = tf.reduce_mean(tf.square(centered), -1, keepdims=True)
    inverse = tf.math.rsqrt(variance + epsilon)
    return centered * inverse, tf.concat([mean, inverse], -1)


@register_gradient("LayerNormalization")
def _gradient(op: Any, d_outputs: Tensor, _: Tensor) -> list[Tensor]:
    inputs, scale, *biases = op.inputs
    named = {
        "inputs": inputs,
        "scale": scale,
        "statistics": op.outputs[1],
        "d_outputs": d_outputs,
    }
    result = call(
        "LayerNormalizationGrad", named, num_biases=len(biases), epsilon=op.get_attr("epsilon")
    )
    return [result.d_inputs, result.d_scale, *result.d_bias]


@register_gradient("LayerNormalizationGrad")
def _second_gradient(op: Any, *u: Tensor) -> list[Tensor]:
    """Differentiates the gradients in TensorFlow's own ops, which have derivatives of any order.

    The statistics are computed again from the inputs, so the gradient with respect to them is None.
    """
    inputs, scale, _, d_outputs = (tf.identity(tensor) for tensor in op.inputs)
    with tf.GradientTape() as tape:
        tape.watch([inputs, scale, d_outputs])
        gradients = composed_gradients(inputs, scale, d_outputs, op.get_attr("epsilon"))
    d_inputs, d_scale, d_d_outputs = tape.gradient(
        gradients[: len(u)], [inputs, scale, d_outputs], output_gradients=list(u)
    )
    return [d_inputs, d_scale, None, d_d_outputs]


def composed_gradients(
    inputs: Tensor, scale: Tensor, d_outputs: Tensor, epsilon: float, batch_axes: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to inputs, scale and bias, in TensorFlow's own ops.

    Args:
        inputs: As of the op, and so are the other tensors.
        scale: As of the op, or of a shape that broadcasts to `inputs`.
        d_outputs: As of the op.
        epsilon: As of the op.
        batch_axes: Over so many of the first axes, no gradient is summed.
    """
    normalized, statistics = normalize(tf.cast(inputs, tf.float32), epsilon)
    inverse = statistics[..., 1:]
    d_outputs = tf.cast(d_outputs, tf.float32)
    gradients = d_outputs * scale
    mean = tf.reduce_mean(gradients, -1, keepdims=True)
    mean_product = tf.reduce_mean(gradients * normalized, -1, keepdims=True)
    d_inputs = (gradients - mean - normalized * mean_product) * inverse
    rows = tf.range(batch_axes, tf.rank(inputs) - 1)
    d_scale = tf.reduce_sum(d_outputs * normalized, rows)
    return tf.cast(d_inputs, inputs.dtype), d_scale, tf.reduce_sum(d_outputs, rows)
