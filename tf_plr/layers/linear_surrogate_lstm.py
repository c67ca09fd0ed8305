# SPDX-License-Identifier: MIT
"""LS-LSTM, the linear surrogate LSTM: an LSTM whose gates look at a GILR's states."""

from typing import Any, Unpack

import keras
import tensorflow as tf
from keras import ops

from tf_plr import _types as types
from tf_plr._types import Tensor
from tf_plr.layers import base
from tf_plr.layers.base import arguments
from tf_plr.layers.base.biases import serialize_bias
from tf_plr.layers.base.gates import pad_prefix_rows


@keras.saving.register_keras_serializable(package="tf_plr")
class LinearSurrogateLSTMCell(base.LinearRecurrentCell):
    """One step of `LinearSurrogateLSTM`, for decoding and for `keras.layers.RNN`.

    It takes the arguments of `LinearSurrogateLSTM` up to `seed`. `dropout` and `recurrent_dropout`
    draw new features at each step.

    Call arguments:
        inputs: Tensor [batch, features].
        states: List of the surrogate s, and c, [batch, units] each.
        training: Whether to apply dropout.

    Returns:
        The output, [batch, units], and the list of next states.
    """

    blocks = ("surrogate_forget", "surrogate_candidate", "forget", "input", "output", "candidate")
    forget_block = "forget"

    def __init__(
        self,
        units: int,
        activation: types.ActivationLike = "tanh",
        *,
        recurrent_initializer: types.InitializerLike = "orthogonal",
        forget_bias: types.BiasLike = "time_scales",
        input_bias: types.BiasLike | None = "normalized",
        recurrent_regularizer: types.RegularizerLike = None,
        recurrent_constraint: types.ConstraintLike = None,
        recurrent_dropout: float = 0.0,
        shift_surrogate: bool = True,
        **kwargs: Unpack[base.CellArguments],
    ) -> None:
        super().__init__(units, activation, forget_bias=forget_bias, **kwargs)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.input_bias = arguments.checked_input_bias(input_bias)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.recurrent_dropout = arguments.checked_rate("recurrent_dropout", recurrent_dropout)
        self.shift_surrogate = shift_surrogate

    @property
    def state_size(self) -> list[int]:
        return [self.units, self.units]

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_kernel((input_shape[-1], 6 * self.units))
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, 4 * self.units),
            name="recurrent_kernel",
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = self.add_bias()
        self.surrogate_normalization = self.add_normalization(2, "surrogate_normalization")
        self.normalization = self.add_normalization(4)

    def recur(
        self, steps: base.Steps, inputs: Tensor, states: list[Tensor], training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        inputs = self.drop_inputs(steps, inputs, training)
        kernel = ops.convert_to_tensor(self.kernel)
        surrogate_bias, bias = self._split(self.bias) if self.use_bias else (None, None)
        joined = self._shares_product(steps, inputs, training)
        if steps.fuses and inputs.ndim == 3:  # Splitting one large product would copy it.
            surrogate_kernel, kernel = self._split(kernel)
            surrogate_product = self.product(inputs, surrogate_kernel)
            gate_product = None if joined else self.product(inputs, kernel)
        else:
            surrogate_product, gate_product = self._split(self.product(inputs, kernel))
        surrogate, last_surrogate = self.recur_gated(
            steps,
            surrogate_product,
            states[0],
            ("forget", "candidate"),
            bias=surrogate_bias,
            normalization=self.surrogate_normalization,
            output="previous" if self.shift_surrogate else "state",
            prefix=inputs if joined else None,
            training=training,
        )
        if joined:
            kernels = ops.concatenate([pad_prefix_rows(kernel), self.recurrent_kernel], axis=0)
            gate_product = self.product(surrogate, kernels)
        else:
            if training and self.recurrent_dropout > 0:
                surrogate = steps.drop(surrogate, self.recurrent_dropout, self.seed_generator)
            gate_product = ops.add(gate_product, self.product(surrogate, self.recurrent_kernel))
        output, last_c = self.recur_gated(
            steps,
            gate_product,
            states[1],
            ("forget", "input", "output", "candidate"),
            bias=bias,
            normalization=self.normalization,
            output="gated",
            is_output=True,
            training=training,
        )
        return output, [last_surrogate, last_c]

    def _shares_product(self, steps: base.Steps, inputs: Tensor, training: bool) -> bool:
        """Whether the surrogate writes its states beside the inputs, so that both share a product.

        Joining copies the inputs, so they must have few features. In a single step, it would copy
        the kernels, too.
        """
        few = inputs.ndim == 3 and self.kernel.shape[0] <= 4 * self.units
        drops = training and self.recurrent_dropout > 0
        fused = self.fused_parts(steps, inputs.dtype, self.activation, "previous")
        return few and not drops and self.shift_surrogate and fused is not None

    def _split(self, tensor: Tensor) -> list[Tensor]:
        """Splits a tensor into the surrogate's two blocks and the other four."""
        return list(tf.split(tensor, [2 * self.units, 4 * self.units], axis=-1))

    def get_config(self) -> dict[str, Any]:
        config = {
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "input_bias": serialize_bias(self.input_bias),
            "recurrent_regularizer": keras.regularizers.serialize(self.recurrent_regularizer),
            "recurrent_constraint": keras.constraints.serialize(self.recurrent_constraint),
            "recurrent_dropout": self.recurrent_dropout,
            "shift_surrogate": self.shift_surrogate,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="tf_plr")
class LinearSurrogateLSTM(base.LinearRecurrentLayer):
    """LS-LSTM, the linear surrogate LSTM or GILR-LSTM. `tf_plr.GILRLSTM` is the same class.

    ```
    s_t = GILR(x)_t with tau = tanh                             (the surrogate, h~ in the paper)
    f_t, i_t, o_t = sigmoid(U s_{t-1} + V x_t + b)
    z_t = tanh(U_z s_{t-1} + V_z x_t + b_z)
    c_t = f_t * c_{t-1} + i_t * z_t
    h_t = o_t * c_t
    ```

    The gates of an LSTM look at h_{t-1}, so each step has to wait for the one before. These gates
    look at a GILR of the inputs instead, so all steps can be computed at once. As in the paper, and
    unlike in an LSTM, h_t applies no activation to c_t.

    `kernel` holds the blocks (forget, candidate) of the surrogate, then V for f, i, o, z. One call
    of the initializer draws all blocks, with the fan of the whole kernel. `recurrent_kernel` holds
    U for f, i, o, z. An LSTM of the same size has 2 * units * (input_dim + 1) fewer parameters.

    Example:

    >>> tf_plr.GILRLSTM(16)(tf.zeros((2, 1000, 3))).shape
    TensorShape([2, 16])

    Args:
        units: Positive integer, dimensionality of the output.
        activation: Activation of z_t, and tau of the surrogate. Default: tanh.
        recurrent_activation: Activation of the gates. Default: sigmoid.
        use_bias: Whether the gates and impulses have a bias vector.
        kernel_initializer: Initializer of `kernel`. Default: `"glorot_uniform"`. (The authors' code
            draws weights uniformly from -0.05 to 0.05.)
        recurrent_initializer: Initializer of `recurrent_kernel`. Default: `"orthogonal"`.
        bias_initializer: Initializer of `bias`, except for the forget gate. Default: `"zeros"`.
        forget_bias: A number or an initializer: the initial bias of the forget gate f. A gate with
            bias b remembers about exp(b) steps. Default: `"time_scales"`, which means
            `TimeScales()`: memories of 1 to 1,000 steps. (The authors' code starts at 5, with
            `input_bias=None`: c then sums 74 candidates, and the initial loss is high.)
        input_bias: A number or an initializer: the initial bias of the input gate i. `"coupled"`: i
            starts at 1 - f (Tallec and Ollivier, 2018). `"normalized"`, the default: i starts with
            i^2 + f^2 = 1, so that c starts with the variance of the candidates, however long the
            memory (Orvieto et al., ICML 2023, section 3.4). None: use `bias_initializer`.
        kernel_regularizer: Regularizer of `kernel`.
        recurrent_regularizer: Regularizer of `recurrent_kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        recurrent_constraint: Constraint of `recurrent_kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Float in [0, 1), fraction of the input features to drop, the same at all steps.
        recurrent_dropout: Float in [0, 1), fraction of the surrogate's features to drop on their
            way to the gates: the same at all steps.
        layer_normalization: Whether to normalise the pre-activations over the features, with a
            learned gain and epsilon 1e-3, before the bias is added. (The authors' code divides by
            variance + 1e-3, not by its square root.)
        shift_surrogate: Whether the gates look at s_{t-1}, as in the paper, or at s_t, as in the
            authors' code.
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
        initial_state: List of the states before the first step, [batch, units] each: the surrogate
            s, and c. None: zeros.
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
        2018 (https://arxiv.org/abs/1709.04057), section 3.2.
    """

    cell_class = LinearSurrogateLSTMCell
    recurrent_initializer: base.CellAttribute[Any] = base.CellAttribute()
    input_bias: base.CellAttribute[Any] = base.CellAttribute()
    recurrent_regularizer: base.CellAttribute[Any] = base.CellAttribute()
    recurrent_constraint: base.CellAttribute[Any] = base.CellAttribute()
    recurrent_dropout: base.CellAttribute[float] = base.CellAttribute()
    shift_surrogate: base.CellAttribute[bool] = base.CellAttribute()

    def __init__(
        self,
        units: int,
        activation: types.ActivationLike = "tanh",
        *,
        recurrent_activation: types.ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: types.InitializerLike = "glorot_uniform",
        recurrent_initializer: types.InitializerLike = "orthogonal",
        bias_initializer: types.InitializerLike = "zeros",
        forget_bias: types.BiasLike = "time_scales",
        input_bias: types.BiasLike | None = "normalized",
        kernel_regularizer: types.RegularizerLike = None,
        recurrent_regularizer: types.RegularizerLike = None,
        bias_regularizer: types.RegularizerLike = None,
        kernel_constraint: types.ConstraintLike = None,
        recurrent_constraint: types.ConstraintLike = None,
        bias_constraint: types.ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        layer_normalization: bool = False,
        shift_surrogate: bool = True,
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
            kernel_initializer=kernel_initializer, recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer, forget_bias=forget_bias, input_bias=input_bias,
            kernel_regularizer=kernel_regularizer, recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer, kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint, bias_constraint=bias_constraint,
            dropout=dropout, recurrent_dropout=recurrent_dropout,
            layer_normalization=layer_normalization, shift_surrogate=shift_surrogate, seed=seed,
            return_sequences=return_sequences, return_state=return_state, go_backwards=go_backwards,
            stateful=stateful, zero_output_for_mask=zero_output_for_mask, algorithm=algorithm,
            sequence_parallel=sequence_parallel, **kwargs,
        )  # fmt: skip


GILRLSTM = LinearSurrogateLSTM
GILRLSTMCell = LinearSurrogateLSTMCell
