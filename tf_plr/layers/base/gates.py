# SPDX-License-Identifier: MIT
"""The gated recurrence that all layers share, from matrix products to outputs."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tf_plr._native.signatures import padded_prefix
from tf_plr._ops.gated_recurrence import Parts, gated_arithmetic
from tf_plr._ops.layer_normalization import composed_layer_normalization, layer_normalization
from tf_plr._types import Tensor
from tf_plr.layers.base import fusion, inputs
from tf_plr.layers.base.steps import Steps


class GatedRecurrence:
    """The part of `LinearRecurrentCell` that computes gates, states and outputs."""

    units: int
    activation: Any
    recurrent_activation: Any
    layer_normalization: bool
    gate_dtype: Any
    state_dtype: Any

    def add_normalization(self, blocks: int, name: str = "normalization") -> Any:
        """Returns a layer that normalises a product of `blocks` blocks; None if it is disabled."""
        if not self.layer_normalization:
            return None
        layer = keras.layers.LayerNormalization(
            epsilon=1e-3, center=False, name=name, dtype=self.gate_dtype
        )
        layer.build((None, blocks * self.units))
        return layer

    def preactivations(self, product: Tensor, normalization: Any, bias: Any) -> list[Tensor]:
        """Splits a product into blocks of `gate_dtype`, after normalisation and bias."""
        inputs.check_real("the products of gates", product)
        product = ops.cast(_normalized(product, normalization), self.gate_dtype)
        if bias is not None:
            product = ops.add(product, bias)
        return list(ops.split(product, product.shape[-1] // self.units, axis=-1))

    def recur_gated(
        self,
        steps: Steps,
        product: Tensor,
        state: Tensor,
        blocks: tuple[str, ...],
        *,
        bias: Tensor = None,
        normalization: Any = None,
        activation: Any = None,
        state_activation: Any = None,
        output: str = "state",
        highway: Tensor = None,
        prefix: Tensor = None,
        is_output: bool = False,
        training: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Computes the recurrence that all layers share, as one fused op where one exists.

        ```
        c_t = f_t * c_{t-1} + i_t * activation(z_t)
        f_t, i_t, o_t = recurrent_activation(blocks)
        ```

        The fused op takes linear, tanh, sigmoid, relu, elu, silu, gelu and softplus, of Keras or of
        `tf.nn`, and gelu with `functools.partial(keras.activations.gelu, approximate=True)`. Its
        gates are sigmoid or hard_sigmoid. TensorFlow's own ops compute other activations, `gate` or
        `preactivations` if a cell overrides them, `algorithm="composed"`, float64, and a
        `state_activation` with `sequence_parallel`.

        Args:
            steps: The `steps` that `recur` received.
            product: [..., blocks * units], of the compute dtype.
            state: c before the first step.
            blocks: Names of the blocks of `product`, in order. "forget" and "candidate" are
                required. "input" (without it, i_t = 1 - f_t) and "output" are optional, and so is
                "highway", x_t, which must be the last.
            bias: Bias of all blocks except "highway"; or None.
            normalization: The layer that `add_normalization` made for the same blocks; or None.
            activation: Activation of the candidate. Default: the cell's.
            state_activation: g, the activation of c_t in the output. Default: the identity.
            output: "state": c_t; "previous": c_{t-1}; "gated": o_t * g(c_t); "highway":
                o_t * g(c_t) + (1 - o_t) * x_t.
            highway: x_t, if it is not a block of the product.
            prefix: [..., features], copied in front of the output, and padded with zeros to a
                multiple of 8. Requires `output="previous"`, and that `fused_parts` is not None.
            is_output: Whether the cell returns this output unchanged, and passes the `state` that
                its `recur` received. Masks are then applied at no cost.
            training: Whether a gradient is likely to be computed.

        Returns:
            The output, [..., units], and c after the last step. A fused op's output has the compute
            dtype; otherwise it has `gate_dtype`. Masked steps of the output hold arbitrary finite
            values, which the layer replaces.
        """
        activation = self.activation if activation is None else activation
        input_gate = "own" if "input" in blocks else "coupled"
        parts = self.fused_parts(
            steps, product.dtype, activation, output, state_activation, input_gate=input_gate
        )
        if "highway" in blocks and (normalization is not None or parts is None):
            gate_product = (len(blocks) - 1) * self.units
            product, highway = tf.split(product, [gate_product, self.units], axis=-1)
            blocks = blocks[:-1]
        if parts is not None:
            order = ("forget", "candidate", "input", "output", "highway")
            if bias is not None:
                bias = ops.convert_to_tensor(bias)
            if normalization is not None:
                # In 16 bits, a bias that is added before the gates would be rounded.
                early_bias, bias = (bias, None) if product.dtype == "float32" else (None, bias)
                scale = ops.convert_to_tensor(normalization.gamma)
                epsilon = normalization.epsilon
                product = layer_normalization(product, scale, early_bias, epsilon)
            return steps.gated(
                product,
                state,
                bias=bias,
                highway=None if highway is None else ops.cast(highway, product.dtype),
                prefix=prefix,
                parts=parts,
                blocks=[blocks.index(name) for name in order if name in blocks],
                keep_states=bool(training),
                is_output=is_output,
            )
        preactivations = self.preactivations(product, normalization, bias)
        block = dict(zip(blocks, preactivations, strict=True))
        if highway is not None:
            block["highway"] = ops.cast(highway, self.gate_dtype)
        states_are_output = is_output and output == "state"
        return gated_arithmetic(
            block,
            output,
            recur=lambda f, i: steps.recur(f, i, state, is_output=states_are_output),
            previous=lambda states: steps.previous(states, state),
            gate=self.gate,
            activation=activation,
            state_activation=state_activation,
        )

    def fused_parts(
        self,
        steps: Steps,
        dtype: Any,
        activation: Any,
        output: str,
        state_activation: Any = None,
        *,
        input_gate: str = "coupled",
    ) -> Parts | None:
        """The parts of the fused op that `recur_gated` would run, or None.

        Args:
            steps: The `steps` that `recur` received.
            dtype: Dtype of the product.
            activation: Activation of the candidate.
            output: As for `recur_gated`.
            state_activation: As for `recur_gated`.
            input_gate: "coupled" or "own".
        """
        as_here = (
            type(self).gate is GatedRecurrence.gate
            and type(self).preactivations is GatedRecurrence.preactivations
            and self.state_dtype == self.gate_dtype == "float32"
        )
        if not (steps.fuses and as_here and fusion.takes_dtype(dtype)):
            return None
        if output not in ("gated", "highway"):
            state_activation = None
        parts = fusion.parts_of(
            activation,
            state_activation,
            self.recurrent_activation,
            output=output,
            input_gate=input_gate,
        )
        linear = parts is None or parts.state_activation == "linear"
        return parts if linear or steps.fuses_state_activations else None

    def gate(self, preactivation: Tensor) -> tuple[Tensor, Tensor]:
        """A gate and 1 - gate, which for sigmoid is computed without cancellation."""
        gate = self.recurrent_activation(preactivation)
        if fusion.native_name(self.recurrent_activation) == "sigmoid":
            return gate, ops.sigmoid(-preactivation)
        return gate, 1 - gate


def _normalized(product: Tensor, normalization: Any) -> Tensor:
    if normalization is None:
        return product
    dtype = normalization.compute_dtype
    scale = ops.cast(normalization.gamma, dtype)
    return composed_layer_normalization(
        ops.cast(product, dtype), scale, None, normalization.epsilon
    )


def pad_prefix_rows(kernel: Tensor) -> Tensor:
    """Adds a row of zeros to a prefix's kernel for each column of the fused op's padding."""
    rows = padded_prefix(kernel.shape[0]) - kernel.shape[0]
    return ops.concatenate([kernel, ops.zeros((rows, kernel.shape[1]), kernel.dtype)], axis=0)
