# SPDX-License-Identifier: MIT
"""A layer of your own, MinGRU, trained beside the built-in ones on pixel-by-pixel digits.

    python examples/own_layer.py [--epochs N] [--digits N]

docs/own_layer.md explains it line by line.
"""

import argparse

import keras

import tf_plr
from tf_plr.layers import LinearRecurrentCell, LinearRecurrentLayer


@keras.saving.register_keras_serializable(package="examples")
class MinGRUCell(LinearRecurrentCell):
    """h_t = f_t * h_{t-1} + (1 - f_t) * (W x_t + b), f_t = sigmoid(W_f x_t + b_f).

    Source: Feng et al., *Were RNNs All We Needed?*, 2024 (https://arxiv.org/abs/2410.01201),
    section 3.1, with f_t for 1 - z_t.
    """

    blocks = ("forget", "candidate")
    forget_block = "forget"

    def build(self, input_shape):
        self.kernel = self.add_kernel((input_shape[-1], 2 * self.units))
        self.bias = self.add_bias()

    def recur(self, steps, inputs, states, training):
        h, last_h = self.recur_gated(
            steps,
            self.product(inputs, self.kernel),
            states[0],
            self.blocks,
            bias=self.bias,
            activation=keras.activations.linear,
            is_output=True,
            training=training,
        )
        return h, [last_h]


@keras.saving.register_keras_serializable(package="examples")
class MinGRU(LinearRecurrentLayer):
    cell_class = MinGRUCell


def main():
    from pixel_mnist import BATCH_SIZE, TRAINING_DIGITS, build, compile_model, load_digits

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--digits", type=int, default=TRAINING_DIGITS // 2, help="to train on")
    arguments = parser.parse_args()
    x, y = load_digits()
    train, test = slice(arguments.digits), slice(TRAINING_DIGITS, None)
    for layer in (MinGRU, tf_plr.GILR, tf_plr.SRU, tf_plr.QRNN, tf_plr.GILRLSTM):
        keras.utils.set_random_seed(0)
        options = {"input_bias": None} if layer is tf_plr.GILRLSTM else {}
        model = build(layer, forget_bias=3.0, **options)
        compile_model(model, arguments.epochs * arguments.digits // BATCH_SIZE)
        model.fit(x[train], y[train], BATCH_SIZE, arguments.epochs, verbose=0)
        loss, accuracy = model.evaluate(x[test], y[test], 100, verbose=0)
        print(
            f"{layer.__name__:>20}: held-out loss {loss:.3f}, accuracy {accuracy:.1%}", flush=True
        )


if __name__ == "__main__":
    main()
