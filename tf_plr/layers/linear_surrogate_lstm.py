# SPDX-License-Identifier: MIT
"""Linear surrogate LSTM (LS-LSTM, GILR-LSTM): an LSTM whose gates look at a GILR's states."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops
from typing_extensions import Unpack

from tf_plr.gated_recurrence import IN_FRONT_OF
from tf_plr.layers import checks
from tf_plr.layers.cell import LinearRecurrentCell, serialize_bias
from tf_plr.layers.layer import LinearRecurrentLayer, OfCell
from tf_plr.layers.steps import Steps
from tf_plr.layers.types import (
    ActivationLike,
    Algorithm,
    BiasLike,
    CellOptions,
    ConstraintLike,
    InitializerLike,
    LayerOptions,
    RegularizerLike,
    Tensor,
)


@keras.saving.register_keras_serializable(package="tf_plr")
class LinearSurrogateLSTMCell(LinearRecurrentCell):
    """One step of `LinearSurrogateLSTM`, which has the equations. States: s, c.

    Args:
        units: Positive integer, dimensionality of the output.
        activation: Activation of the impulses: tanh of z_t, and tau of the surrogate. Default:
            tanh.
        recurrent_activation: Activation of the gates. Default: sigmoid.
        use_bias: Whether the gates and impulses have a bias vector.
        kernel_initializer: Initializer of `kernel`. Default: `"glorot_uniform"`. The authors' code
            draws weights uniformly from -0.05 to 0.05: `keras.initializers.RandomUniform(-0.05,
            0.05)`.
        recurrent_initializer: Initializer of `recurrent_kernel`. Default: `"orthogonal"`.
        bias_initializer: Initializer of `bias`, but for the forget gate's. Default: `"zeros"`.
        forget_bias: A number or an initializer: where the bias of the forget gate f starts. A bias
            of b remembers about exp(b) steps. Default: `"time_scales"`, that is
            `tf_plr.initializers.TimeScales()`: memories of 1 to 1,000 steps. The authors' code
            starts at 5, with input gates half open (`input_bias=None`): then c adds up 74
            candidates, and losses start high.
        input_bias: A number or an initializer: where the bias of the input gate i starts;
            `"coupled"`: at minus that of the forget gate, so that i starts as 1 - f (Tallec and
            Ollivier, 2018); `"normalized"`: where i^2 + f^2 = 1, so that c starts with the variance
            of the candidates, however long the memory (Orvieto et al., *Resurrecting Recurrent
            Neural Networks for Long Sequences*, ICML 2023, section 3.4). None: as
            `bias_initializer` has it. Default: `"normalized"`.
        kernel_regularizer: Regularizer of `kernel`.
        recurrent_regularizer: Regularizer of `recurrent_kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        recurrent_constraint: Constraint of `recurrent_kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Float in [0, 1), fraction of the input features to drop: others at each step.
        recurrent_dropout: Float in [0, 1), fraction of the surrogate's features to drop on their
            way to the gates: others at each step.
        layer_normalization: Whether to normalise the pre-activations over the features, with a
            learned gain, before the bias is added: g (p - mean) / sqrt(variance + 1e-3). (The
            authors' code divides by variance + 1e-3, without the root.)
        shift_surrogate: Whether the gates look at s_{t-1}, as in the paper, or at s_t, as in the
            authors' code.
        seed: Random seed for dropout.
        **kwargs: What every Keras layer takes, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor [batch, features].
        states: List of the surrogate s, and c, [batch, units] each.
        training: Whether to apply dropout.

    Returns:
        The output, [batch, units], and the list of next states.

    Raises:
        ValueError, TypeError: an argument that is out of range, or of the wrong type or shape.
    """

    blocks = ("surrogate_gate", "surrogate_impulse", "forget", "input", "output", "candidate")
    forget_block = "forget"

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        *,
        recurrent_activation: ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        forget_bias: BiasLike = "time_scales",
        input_bias: BiasLike | None = "normalized",
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        layer_normalization: bool = False,
        shift_surrogate: bool = True,
        seed: int | None = None,
        **kwargs: Unpack[CellOptions],
    ) -> None:
        super().__init__(
            units,
            activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            forget_bias=forget_bias,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            layer_normalization=layer_normalization,
            seed=seed,
            **kwargs,
        )
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.input_bias = checks.input_bias(input_bias)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.recurrent_dropout = checks.rate("recurrent_dropout", recurrent_dropout)
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

    def bias_starts(self) -> dict[str, Any]:
        starts = super().bias_starts()
        if self.input_bias is not None:
            starts["input"] = ("input_bias", self.input_bias)
        return starts

    def recur(
        self, steps: Steps, inputs: Tensor, states: list[Tensor], training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        inputs = self.drop_inputs(steps, inputs, training)
        kernel = ops.convert_to_tensor(self.kernel)
        surrogate_bias, bias = self._split(self.bias) if self.use_bias else (None, None)
        joined = self._joins(steps, inputs, training)
        if steps.fuses and inputs.ndim == 3:  # Windows of a large product would be copied.
            surrogate_kernel, kernel = self._split(kernel)
            of_surrogate = self.product(inputs, surrogate_kernel)
            of_gates = None if joined else self.product(inputs, kernel)
        else:
            of_surrogate, of_gates = self._split(self.product(inputs, kernel))
        surrogate, last_surrogate = self.recur_gated(
            steps,
            of_surrogate,
            states[0],
            ("forget", "candidate"),
            bias=surrogate_bias,
            normalization=self.surrogate_normalization,
            output="previous" if self.shift_surrogate else "state",
            in_front=inputs if joined else None,
            training=training,
        )
        if joined:
            of_gates = self.product(surrogate, self._joined_kernel(kernel))
        else:
            if training and self.recurrent_dropout > 0:
                surrogate = steps.drop(surrogate, self.recurrent_dropout, self.seed_generator)
            of_gates = ops.add(of_gates, self.product(surrogate, self.recurrent_kernel))
        output, last_c = self.recur_gated(
            steps,
            of_gates,
            states[1],
            ("forget", "input", "output", "candidate"),
            bias=bias,
            normalization=self.normalization,
            output="gated",
            training=training,
        )
        return output, [last_surrogate, last_c]

    def _joins(self, steps: Steps, inputs: Tensor, training: bool) -> bool:
        """Whether the surrogate writes its states beside the inputs, for one product of both."""
        # Inputs are copied; and for one step so would be the kernels.
        few = inputs.ndim == 3 and self.kernel.shape[0] <= 4 * self.units
        drops = training and self.recurrent_dropout > 0
        native = self.native_cell(
            steps,
            inputs,
            self.surrogate_normalization,
            self.activation,
            ("forget", "candidate"),
            "previous",
        )
        one_dtype = self.surrogate_normalization is None or self.compute_dtype == self.gate_dtype
        return few and not drops and one_dtype and self.shift_surrogate and native is not None

    def _joined_kernel(self, kernel: Tensor) -> Tensor:
        zeros = ops.zeros((-kernel.shape[0] % IN_FRONT_OF, 4 * self.units), kernel.dtype)
        return ops.concatenate([kernel, zeros, self.recurrent_kernel], axis=0)

    def _split(self, tensor: Tensor) -> list[Tensor]:
        """What belongs to the surrogate's two blocks, and to the other four."""
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
class LinearSurrogateLSTM(LinearRecurrentLayer):
    """Linear surrogate LSTM, also known as GILR-LSTM; `tf_plr.GILRLSTM` is the same class.

    ```
    s_t = GILR(x)_t with tau = tanh                             (the surrogate, h~ in the paper)
    f_t, i_t, o_t = sigmoid(U s_{t-1} + V x_t + b)
    z_t = tanh(U_z s_{t-1} + V_z x_t + b_z)
    c_t = f_t * c_{t-1} + i_t * z_t
    h_t = o_t * c_t
    ```

    An LSTM's gates look at h_{t-1}, which ties each step to the one before; these look at a GILR
    of the inputs, and so every step can be computed at once. Like the paper, and unlike an LSTM,
    h_t has no activation of c_t. `kernel` holds the blocks (gate, impulse) of the surrogate, then
    V for f, i, o, z, all drawn with one fan; `recurrent_kernel` holds U in the same order. An LSTM
    of the same size has 2 * units * (input_dim + 1) fewer parameters. (The paper says 2 n (n + m),
    but by its equations the surrogate's gates see no state.)

    The authors' code differs from their paper: there the gates look at s_t, for which pass
    `shift_surrogate=False`.

    Example:

    >>> tf_plr.GILRLSTM(16)(tf.zeros((2, 1000, 3))).shape
    TensorShape([2, 16])

    Args:
        units: Positive integer, dimensionality of the output.
        activation: Activation of the impulses: tanh of z_t, and tau of the surrogate. Default:
            tanh.
        recurrent_activation: Activation of the gates. Default: sigmoid.
        use_bias: Whether the gates and impulses have a bias vector.
        kernel_initializer: Initializer of `kernel`. Default: `"glorot_uniform"`. The authors' code
            draws weights uniformly from -0.05 to 0.05: `keras.initializers.RandomUniform(-0.05,
            0.05)`.
        recurrent_initializer: Initializer of `recurrent_kernel`. Default: `"orthogonal"`.
        bias_initializer: Initializer of `bias`, but for the forget gate's. Default: `"zeros"`.
        forget_bias: A number or an initializer: where the bias of the forget gate f starts. A bias
            of b remembers about exp(b) steps. Default: `"time_scales"`, that is
            `tf_plr.initializers.TimeScales()`: memories of 1 to 1,000 steps. The authors' code
            starts at 5, with input gates half open (`input_bias=None`): then c adds up 74
            candidates, and losses start high.
        input_bias: A number or an initializer: where the bias of the input gate i starts;
            `"coupled"`: at minus that of the forget gate, so that i starts as 1 - f (Tallec and
            Ollivier, 2018); `"normalized"`: where i^2 + f^2 = 1, so that c starts with the variance
            of the candidates, however long the memory (Orvieto et al., *Resurrecting Recurrent
            Neural Networks for Long Sequences*, ICML 2023, section 3.4). None: as
            `bias_initializer` has it. Default: `"normalized"`.
        kernel_regularizer: Regularizer of `kernel`.
        recurrent_regularizer: Regularizer of `recurrent_kernel`.
        bias_regularizer: Regularizer of `bias`.
        kernel_constraint: Constraint of `kernel`.
        recurrent_constraint: Constraint of `recurrent_kernel`.
        bias_constraint: Constraint of `bias`.
        dropout: Float in [0, 1), fraction of the input features to drop: the same at all steps.
        recurrent_dropout: Float in [0, 1), fraction of the surrogate's features to drop on their
            way to the gates: the same at all steps.
        layer_normalization: Whether to normalise the pre-activations over the features, with a
            learned gain, before the bias is added: g (p - mean) / sqrt(variance + 1e-3). (The
            authors' code divides by variance + 1e-3, without the root.)
        shift_surrogate: Whether the gates look at s_{t-1}, as in the paper, or at s_t, as in the
            authors' code.
        seed: Random seed for dropout.
        return_sequences: Whether to return the output of every step, or of the last one only.
        return_state: Whether to return the last states too.
        go_backwards: Whether to process, and return, the steps from last to first.
        stateful: Whether a batch starts from the last states of the batch before.
        zero_output_for_mask: Whether masked steps output zeros. False: the last valid output.
        unroll: Must be False: there is no loop to unroll.
        algorithm: See `tf_plr.linear_recurrence`.
        sequence_parallel: Whether the replicas of a `tf.distribute` strategy have parts of each
            sequence, in the order of time, and not sequences of their own: see
            `tf_plr.distributed.shard_sequences`. Every replica returns the last output, and the
            last states, of the whole sequence. Called outside of replicas, the layer takes whole
            sequences.
        **kwargs: What every Keras layer takes, such as `name`, `dtype` and `activity_regularizer`.

    Call arguments:
        sequences: Tensor [batch, time, features].
        initial_state: List of the states before the first step, [batch, units] each: the surrogate
            s, and c. None: zeros.
        mask: Boolean tensor [batch, time]: at False, states stay as they are. None: the mask that
            came with `sequences`.
        training: Whether to apply dropout.
        sequences_mask: Keras passes the mask here if it came with `sequences`.

    Output shape:
        [batch, time, units] if `return_sequences`, or else [batch, units]; if `return_state`,
        followed by the states.

    Raises:
        ValueError, TypeError: an argument that is out of range, or of the wrong type or shape.
        tf.errors.InvalidArgumentError: the same, where only the running graph knows the shapes.

    Reference:
        Martin and Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence Length*, ICLR
        2018 (https://arxiv.org/abs/1709.04057), section 3.2.
    """

    cell_class = LinearSurrogateLSTMCell
    recurrent_initializer: OfCell[Any] = OfCell()
    input_bias: OfCell[Any] = OfCell()
    recurrent_regularizer: OfCell[Any] = OfCell()
    recurrent_constraint: OfCell[Any] = OfCell()
    recurrent_dropout: OfCell[float] = OfCell()
    shift_surrogate: OfCell[bool] = OfCell()

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        *,
        recurrent_activation: ActivationLike = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        forget_bias: BiasLike = "time_scales",
        input_bias: BiasLike | None = "normalized",
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
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
        unroll: bool = False,
        algorithm: Algorithm = "auto",
        sequence_parallel: bool = False,
        **kwargs: Unpack[LayerOptions],
    ) -> None:
        super().__init__(
            units,
            activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            forget_bias=forget_bias,
            input_bias=input_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            layer_normalization=layer_normalization,
            shift_surrogate=shift_surrogate,
            seed=seed,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            zero_output_for_mask=zero_output_for_mask,
            unroll=unroll,
            algorithm=algorithm,
            sequence_parallel=sequence_parallel,
            **kwargs,
        )


GILRLSTM = LinearSurrogateLSTM
GILRLSTMCell = LinearSurrogateLSTMCell
