# SPDX-License-Identifier: MIT
import keras
import numpy as np
import tensorflow as tf

import tf_plr

tf.config.experimental.enable_op_determinism()
x = np.random.default_rng(0).normal(size=(4, 3000, 3)).astype("float32")
results = []
for _ in range(2):
    keras.utils.set_random_seed(0)
    layers = [tf_plr.GILRLSTM(4, return_sequences=True, dropout=0.2), tf_plr.QRNN(4)]
    model = keras.Sequential([keras.Input((None, 3)), *layers])
    model.compile("adam", "mse")
    model.fit(x, np.ones((4, 4)), epochs=3, verbose=0)
    results.append(model.get_weights())
for a, b in zip(*results, strict=True):
    assert np.array_equal(a, b)
