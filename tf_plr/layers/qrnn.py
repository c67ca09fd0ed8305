# SPDX-License-Identifier: MIT
"""QRNN: quasi-recurrent network, a causal convolution and a recurrent pooling."""

import keras
from keras import ops

from tf_plr.layers import checks
from tf_plr.layers.base import LinearRecurrentCell, LinearRecurrentLayer

# The gates of each pooling, in the order of their blocks after the candidate's.
POOLINGS = {"f": ("forget",), "fo": ("forget", "output"), "ifo": ("forget", "output", "input")}


@keras.saving.register_keras_serializable(package="tf_plr")
class QRNNCell(LinearRecurrentCell):
    """One step of `QRNN`; takes its arguments up to `seed`.

    States: c, and, if `kernel_size` > 1, the last `kernel_size - 1` inputs side by side, oldest
    first. Their size is known once the cell is built: before, `state_size` has 0 for it.
    """

    forget_block = "forget"

    def __init__(self, units, kernel_size=2, activation="tanh", *, pooling="fo", **kwargs):
        super().__init__(units, activation, **kwargs)
        self.kernel_size = checks.positive_integer("kernel_size", kernel_size)
        if pooling not in tuple(POOLINGS):
            raise ValueError(f"pooling must be one of {tuple(POOLINGS)}, but is {pooling!r}")
        self.pooling = pooling
        self.blocks = ("candidate", *POOLINGS[pooling])
        self.input_dim = 0

    @property
    def state_size(self):
        history = (self.kernel_size - 1) * self.input_dim
        return [self.units, history] if self.kernel_size > 1 else [self.units]

    def build(self, input_shape):
        self.input_dim = input_shape[-1]
        filters = len(self.blocks) * self.units
        self.kernel = self.add_kernel((self.kernel_size, self.input_dim, filters))
        self.bias = self.add_bias()
        self.normalization = self.add_normalization(len(self.blocks))

    def recur(self, steps, inputs, states, training):
        inputs = self.drop_inputs(steps, inputs, training)
        c, *history = states
        if history:
            product, *history = steps.convolve(inputs, self.kernel, *history)
        else:
            product = ops.matmul(inputs, self.kernel[0])
        candidate, *gates = self.preactivations(product, self.normalization, self.bias)
        candidate = self.activation(candidate)
        gates = dict(zip(self.blocks[1:], map(self.recurrent_activation, gates), strict=True))

        forget = gates["forget"]
        c, last_c = steps.recur(forget, gates.get("input", 1 - forget) * candidate, c)
        output = gates["output"] * c if "output" in gates else c
        return output, [last_c, *history]

    def get_config(self):
        config = {"kernel_size": self.kernel_size, "pooling": self.pooling}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="tf_plr")
class QRNN(LinearRecurrentLayer):
    """Quasi-recurrent network.

    ```
    z_t, f_t, o_t, i_t = tanh(W_z * x), sigmoid(W_f * x), sigmoid(W_o * x), sigmoid(W_i * x) at t
    pooling "f":    c_t = f_t . c_{t-1} + (1 - f_t) . z_t,   h_t = c_t
    pooling "fo":   c_t as above,                            h_t = o_t . c_t
    pooling "ifo":  c_t = f_t . c_{t-1} + i_t . z_t,         h_t = o_t . c_t
    ```

    where W * x is a causal convolution: at t it sees x_{t-kernel_size+1} to x_t, and biases are
    left out. `kernel` is [kernel_size, input_dim, blocks], oldest input first, with the blocks z,
    f, o, i that `pooling` needs. Masked steps are not in the window: it holds the last valid
    inputs.

    The code of Martin and Cundy stacks one shifted copy fewer than it means to: for a width of 2,
    none at all. Here `kernel_size` is the width that the equations mean.

    References: Bradbury, Merity, Xiong and Socher, *Quasi-Recurrent Neural Networks*, ICLR 2017
    (https://arxiv.org/abs/1611.01576), equations 1 to 5; Martin and Cundy, *Parallelizing Linear
    Recurrent Neural Nets Over Sequence Length*, ICLR 2018, section 4.1.

    Example:

    >>> tf_plr.QRNN(16, kernel_size=3)(tf.zeros((2, 1000, 3))).shape
    TensorShape([2, 16])

    Args:
        kernel_size: Positive integer, width of the convolution in steps.
        pooling: `"f"`, `"fo"` or `"ifo"`.
    """

    cell_class = QRNNCell
