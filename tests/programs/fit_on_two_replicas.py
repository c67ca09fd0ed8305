# SPDX-License-Identifier: MIT
import sys

import keras
import numpy as np
from model_of_all_layers import make, x, y
from two_replicas import strategy_of

import tf_plr

for policy, tolerance in (("mixed_bfloat16", 0.05), ("float32", 1e-4)):
    losses = []
    for devices in (1, 2):
        strategy = strategy_of(devices)
        assert strategy.num_replicas_in_sync == devices
        with strategy.scope():
            model = make(policy)
            model.compile(keras.optimizers.SGD(0.1), "mse")
        fit = model.fit(x, y, batch_size=8, epochs=3, verbose=0, shuffle=False)
        losses.append(fit.history["loss"])
    np.testing.assert_allclose(*losses, rtol=tolerance)

# Stateful layers keep the states of each replica's sequences.
losses = []
for devices in (1, 2):
    keras.utils.set_random_seed(0)
    with strategy_of(devices).scope():
        layer = tf_plr.GILRLSTM(4, stateful=True)
        stateful = keras.Sequential(
            [keras.Input((None, 3), batch_size=8 // devices), layer, keras.layers.Dense(1)]
        )
        stateful.compile(keras.optimizers.SGD(0.1), "mse")
    fit = stateful.fit(x[:8], y[:8], batch_size=8, epochs=3, verbose=0, shuffle=False)
    losses.append(fit.history["loss"])
np.testing.assert_allclose(*losses, rtol=1e-4)

# The last batch is one sequence, so that one of two replicas has none: Keras halves the loss.
alone = make(policy)
alone.set_weights(model.get_weights())
alone.compile(keras.optimizers.SGD(0.1), "mse")
alone.fit(x[:8], y[:8], batch_size=8, verbose=0)
alone.optimizer.learning_rate = 0.05
alone.fit(x[8:9], y[8:9], verbose=0)
model.fit(x[:9], y[:9], batch_size=8, verbose=0, shuffle=False)
for actual, expected in zip(model.get_weights(), alone.get_weights(), strict=True):
    np.testing.assert_allclose(actual, expected, atol=1e-5)

# A model saved under a strategy loads without one.
model.save(sys.argv[1])
alone = keras.models.load_model(sys.argv[1])
np.testing.assert_allclose(alone(x[:4]), model(x[:4]), atol=1e-6)
