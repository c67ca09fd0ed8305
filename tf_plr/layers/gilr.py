# SPDX-License-Identifier: MIT
"""GILR: gated impulse linear recurrence."""

import keras
from keras import ops

from tf_plr.layers.base import LinearRecurrentCell, LinearRecurrentLayer


@keras.saving.register_keras_serializable(package="tf_plr")
class GILRCell(LinearRecurrentCell):
    """One step of `GILR`; takes its arguments up to `seed`. State: h."""

    blocks = ("gate", "impulse")
    forget_block = "gate"

    def __init__(self, units, activation="elu", **kwargs):
        super().__init__(units, activation, **kwargs)

    def build(self, input_shape):
        self.kernel = self.add_kernel((input_shape[-1], 2 * self.units))
        self.bias = self.add_bias()
        self.normalization = self.add_normalization(2)

    def recur(self, steps, inputs, states, training):
        inputs = self.drop_inputs(steps, inputs, training)
        product = ops.matmul(inputs, self.kernel)
        gate, impulse = self.preactivations(product, self.normalization, self.bias)
        gate = self.recurrent_activation(gate)
        output, state = steps.recur(gate, (1 - gate) * self.activation(impulse), states[0])
        return output, [state]


@keras.saving.register_keras_serializable(package="tf_plr")
class GILR(LinearRecurrentLayer):
    """Gated impulse linear recurrence: a learned, gated moving average.

    ```
    g_t = sigmoid(U x_t + b_g)
    i_t = tau(V x_t + b_i)
    h_t = g_t * h_{t-1} + (1 - g_t) * i_t
    ```

    tau is `activation`, elu by default as in the authors' code; `kernel` is [U | V].

    Reference: Martin and Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence
    Length*, ICLR 2018 (https://arxiv.org/abs/1709.04057), section 3.1.

    Example:

    >>> tf_plr.GILR(16, return_sequences=True)(tf.zeros((2, 1000, 3))).shape
    TensorShape([2, 1000, 16])

    Args:
    """

    cell_class = GILRCell
