# SPDX-License-Identifier: MIT
import keras
import numpy as np

import tf_plr

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(16, 300, 3)).astype("float32")
model = keras.Sequential([keras.Input((None, 3)), tf_plr.GILRLSTM(8), keras.layers.Dense(1)])
model.compile("adam", "mse")


def fit(epochs, *callbacks):
    return model.fit(x, x[:, 0, :1], epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
