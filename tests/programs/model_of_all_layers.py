# SPDX-License-Identifier: MIT
import keras
import numpy as np
import tensorflow as tf

import tf_plr

tf.config.experimental.enable_tensor_float_32_execution(False)
x = np.random.default_rng(0).normal(size=(16, 12, 3)).astype("float32")
y = x.mean((1, 2))[:, None]


def make(policy="float32"):
    keras.utils.set_random_seed(0)
    layers = [tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN]
    model = keras.Sequential([keras.Input((None, 3))])
    for layer in layers:
        model.add(layer(4, return_sequences=layer is not layers[-1], dtype=policy))
    model.add(keras.layers.Dense(1, dtype="float32"))
    return model
