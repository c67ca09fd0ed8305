# SPDX-License-Identifier: MIT
"""Linear surrogate LSTM (LS-LSTM, GILR-LSTM): an LSTM whose gates look at a GILR's states."""

import keras
from keras import ops

from tf_plr.layers import checks
from tf_plr.layers.base import LinearRecurrentCell, LinearRecurrentLayer


@keras.saving.register_keras_serializable(package="tf_plr")
class LinearSurrogateLSTMCell(LinearRecurrentCell):
    """One step of `LinearSurrogateLSTM`; takes its arguments up to `seed`. States: surrogate, c."""

    blocks = ("surrogate_gate", "surrogate_impulse", "forget", "input", "output", "candidate")
    forget_block = "forget"

    def __init__(
        self,
        units,
        activation="tanh",
        *,
        recurrent_initializer="orthogonal",
        forget_bias=5.0,
        recurrent_regularizer=None,
        recurrent_constraint=None,
        recurrent_dropout=0.0,
        shift_surrogate=True,
        **kwargs,
    ):
        super().__init__(units, activation, forget_bias=forget_bias, **kwargs)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.recurrent_dropout = checks.rate("recurrent_dropout", recurrent_dropout)
        self.shift_surrogate = shift_surrogate

    @property
    def state_size(self):
        return [self.units, self.units]

    def build(self, input_shape):
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

    def recur(self, steps, inputs, states, training):
        inputs = self.drop_inputs(steps, inputs, training)
        of_surrogate, of_gates = self._split(ops.matmul(inputs, self.kernel))
        surrogate_bias, bias = self._split(self.bias) if self.use_bias else (None, None)

        gate, impulse = self.preactivations(
            of_surrogate, self.surrogate_normalization, surrogate_bias
        )
        gate = self.recurrent_activation(gate)
        surrogate, last_surrogate = steps.recur(
            gate, (1 - gate) * self.activation(impulse), states[0]
        )
        if self.shift_surrogate:
            surrogate = steps.previous(surrogate, states[0])
        if training and self.recurrent_dropout > 0:
            surrogate = steps.drop(surrogate, self.recurrent_dropout, self.seed_generator)

        of_gates = ops.add(of_gates, ops.matmul(surrogate, self.recurrent_kernel))
        forget, input_, output, candidate = self.preactivations(of_gates, self.normalization, bias)
        impulse = self.recurrent_activation(input_) * self.activation(candidate)
        c, last_c = steps.recur(self.recurrent_activation(forget), impulse, states[1])
        return self.recurrent_activation(output) * c, [last_surrogate, last_c]

    def _split(self, tensor):
        """What belongs to the surrogate's two blocks, and to the other four."""
        return tensor[..., : 2 * self.units], tensor[..., 2 * self.units :]

    def get_config(self):
        config = {
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
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
    V for f, i, o, z; `recurrent_kernel` holds U in the same order. An LSTM of the same size has
    2 * units * (input_dim + 1) fewer parameters.

    The authors' code differs from their paper: there the gates look at s_t, for which pass
    `shift_surrogate=False`.

    Reference: Martin and Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence
    Length*, ICLR 2018 (https://arxiv.org/abs/1709.04057), section 3.2.

    Example:

    >>> tf_plr.GILRLSTM(16)(tf.zeros((2, 1000, 3))).shape
    TensorShape([2, 16])

    Args:
        recurrent_initializer: Initializer of `recurrent_kernel`. Default: `"orthogonal"`.
        recurrent_regularizer: Regularizer of `recurrent_kernel`.
        recurrent_constraint: Constraint of `recurrent_kernel`.
        recurrent_dropout: Float in [0, 1), fraction of the surrogate's features to drop on their
            way to the gates, the same at all steps.
        shift_surrogate: Whether the gates look at s_{t-1}, as in the paper, or at s_t, as in the
            authors' code.
    """

    cell_class = LinearSurrogateLSTMCell


GILRLSTM = LinearSurrogateLSTM
