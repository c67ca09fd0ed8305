# SPDX-License-Identifier: MIT
"""SRU: simple recurrent unit, in its first, linear form."""

import keras
from keras import ops

from tf_plr.layers.base import LinearRecurrentCell, LinearRecurrentLayer


@keras.saving.register_keras_serializable(package="tf_plr")
class SRUCell(LinearRecurrentCell):
    """One step of `SRU`; takes its arguments up to `seed`. State: c."""

    blocks = ("impulse", "forget", "reset")
    forget_block = "forget"

    def __init__(self, units, activation=None, *, forget_bias=5.0, **kwargs):
        super().__init__(units, activation, forget_bias=forget_bias, **kwargs)

    def build(self, input_shape):
        self.needs_projection = input_shape[-1] != self.units
        blocks = 4 if self.needs_projection else 3
        self.kernel = self.add_kernel((input_shape[-1], blocks * self.units))
        self.bias = self.add_bias()
        self.normalization = self.add_normalization(3)

    def recur(self, steps, inputs, states, training):
        highway = inputs
        product = ops.matmul(self.drop_inputs(steps, inputs, training), self.kernel)
        if self.needs_projection:
            highway = product[..., 3 * self.units :]
            product = product[..., : 3 * self.units]
        impulse, forget, reset = self.preactivations(product, self.normalization, self.bias)
        forget = self.recurrent_activation(forget)
        reset = self.recurrent_activation(reset)
        c, last_c = steps.recur(forget, (1 - forget) * impulse, states[0])
        return reset * self.activation(c) + (1 - reset) * highway, [last_c]


@keras.saving.register_keras_serializable(package="tf_plr")
class SRU(LinearRecurrentLayer):
    """Simple recurrent unit, in the linear form of its first publication.

    ```
    x~_t, f_t, r_t = W x_t + b, sigmoid(W_f x_t + b_f), sigmoid(W_r x_t + b_r)
    c_t = f_t * c_{t-1} + (1 - f_t) * x~_t
    h_t = r_t * g(c_t) + (1 - r_t) * x_t
    ```

    g is `activation`, the identity by default as in Martin and Cundy; `kernel` is [W | W_f | W_r].
    Where the input size is not `units`, `kernel` has a fourth block, and its product with x_t
    takes the place of x_t in the highway, without bias or normalisation.

    Not to be confused with the SRU of EMNLP 2018, whose gates also see c_{t-1}: that is not a
    linear recurrence, and is not computed here.

    References: Lei and Zhang, *Training RNNs as Fast as CNNs*, arXiv:1709.02755v1, 2017; Martin
    and Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence Length*, ICLR 2018,
    section 4.1.

    Example:

    >>> tf_plr.SRU(16, return_sequences=True)(tf.zeros((2, 1000, 3))).shape
    TensorShape([2, 1000, 16])

    Args:
    """

    cell_class = SRUCell
