# SPDX-License-Identifier: MIT
"""GILR: gated impulse linear recurrence."""

from typing import Any, Unpack

import keras

from tf_plr import _types as types
from tf_plr._types import Tensor
from tf_plr.layers import base


@keras.saving.register_keras_serializable(package="tf_plr")
class GILRCell(base.LinearRecurrentCell):
    """One step of `GILR`, for decoding and for `keras.layers.RNN`.

    Takes the arguments of `GILR` up to `seed`. `dropout` drops other features at each step.

    Call arguments:
        inputs: Tensor [batch, features].
        states: List of h, [batch, units].
        training: Whether to apply dropout.

    Returns:
        The output, [batch, units], and the list of next states.
    """

    blocks = ("forget", "candidate")
    forget_block = "forget"

    def __init__(
        self,
        units: int,
        activation: types.ActivationLike = "elu",
        *,
        forget_bias: types.BiasLike = "time_scales",
        **kwargs: Unpack[base.CellArguments],
    ) -> None:
        super().__init__(units, activation, forget_bias=forget_bias, **kwargs)

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_kernel((input_shape[-1], 2 * self.units))
        self.bias = self.add_bias()
        self.normalization = self.add_normalization(2)

    def recur(
        self, steps: base.Steps, inputs: Tensor, states: list[Tensor], training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        inputs = self.drop_inputs(steps, inputs, training)
        product = self.product(inputs, self.kernel)
        output, state = self.recur_gated(
            steps,
            product,
            states[0],
            self.blocks,
            bias=self.bias,
            normalization=self.normalization,
            is_output=True,
            training=training,
        )
        return output, [state]


@keras.saving.register_keras_serializable(package="tf_plr")
class GILR(base.LinearRecurrentLayer):
    """Gated impulse linear recurrence: a learned, gated moving average.

    ```
    g_t = sigmoid(U x_t + b_g)
    i_t = tau(V x_t + b_i)
    h_t = g_t * h_{t-1} + (1 - g_t) * i_t
    ```

    tau is `activation`, elu by default as in the authors' code; `kernel` is [U | V].

    Example:

    >>> tf_plr.GILR(16, return_sequences=True)(tf.zeros((2, 1000, 3))).shape
    TensorShape([2, 1000, 16])

    Args:
        units: Positive integer, dimensionality of the output.
        activation: tau, the activation of the impulses. Default: elu.
        recurrent_activation: Activation of the gates. Default: sigmoid.
        use_bias: Whether the gates and impulses have a bias vector.
        kernel_initializer: Initializer of `kernel`. Default: `"glorot_uniform"`. (The authors' code
            draws weights uniformly from -0.05 to 0.05.)
        bias_initializer: Initializer of `bias`, except for the forget gate. Default: `"zeros"`.
        forget_bias: A number or an initializer: the initial bias of the gate g. A gate with bias b
            remembers about exp(b) steps. Default: `"time_scales"`, short for `TimeScales()`, which
            gives the units memories of 1 to 1,000 steps.
        kernel_regularizer: Regularizer of `kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Float in [0, 1), fraction of the input features to drop, the same at all steps.
        layer_normalization: Whether to normalise the pre-activations over the features, with a
            learned gain and epsilon 1e-3, before the bias is added. (The authors' code divides by
            variance + 1e-3, not by its square root.)
        seed: Random seed for dropout.
        return_sequences: Whether to return the output of every step, or of the last one only.
        return_state: Whether to return the last states too.
        go_backwards: Whether to process, and return, the steps from last to first.
        stateful: Whether a batch starts from the last states of the batch before.
        zero_output_for_mask: Whether masked steps output zeros, not the last valid output.
        algorithm: See `tf_plr.linear_recurrence`.
        sequence_parallel: Whether the replicas of a `tf.distribute` strategy hold consecutive parts
            of each sequence: see `tf_plr.distributed.shard_sequences`.
        **kwargs: Arguments of all Keras layers, such as `name`, `dtype` and `activity_regularizer`.

    Call arguments:
        sequences: Tensor [batch, time, features].
        initial_state: List of the states before the first step: h, [batch, units]. None: zeros.
        mask: Boolean tensor [batch, time]. Steps where it is False do not change the states. None:
            the mask that Keras attached to `sequences`.
        training: Whether to apply dropout.
        resets: Boolean tensor [batch, time]. True where a step is the first of a new sequence: then
            all states before it are zeros. None: each row is one sequence.

    Output shape:
        [batch, time, units] if `return_sequences`, or else [batch, units]; if `return_state`,
        followed by the states.

    Raises:
        ValueError, TypeError: an argument that is out of range, or of the wrong type or shape.
        tf.errors.InvalidArgumentError: the same, if shapes are known only when the graph runs.

    Reference:
        Martin and Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence Length*, ICLR
        2018 (https://arxiv.org/abs/1709.04057), section 3.1.
    """

    cell_class = GILRCell

    def __init__(
        self,
        units: int,
        activation: types.ActivationLike = "elu",
        *,
        recurrent_activation: types.ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: types.InitializerLike = "glorot_uniform",
        bias_initializer: types.InitializerLike = "zeros",
        forget_bias: types.BiasLike = "time_scales",
        kernel_regularizer: types.RegularizerLike = None,
        bias_regularizer: types.RegularizerLike = None,
        kernel_constraint: types.ConstraintLike = None,
        bias_constraint: types.ConstraintLike = None,
        dropout: float = 0.0,
        layer_normalization: bool = False,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        algorithm: types.Algorithm = "auto",
        sequence_parallel: bool = False,
        **kwargs: Unpack[base.LayerOptions],
    ) -> None:
        super().__init__(
            units, activation, recurrent_activation=recurrent_activation, use_bias=use_bias,
            kernel_initializer=kernel_initializer, bias_initializer=bias_initializer,
            forget_bias=forget_bias, kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint, dropout=dropout,
            layer_normalization=layer_normalization, seed=seed, return_sequences=return_sequences,
            return_state=return_state, go_backwards=go_backwards, stateful=stateful,
            zero_output_for_mask=zero_output_for_mask, algorithm=algorithm,
            sequence_parallel=sequence_parallel, **kwargs,
        )  # fmt: skip
