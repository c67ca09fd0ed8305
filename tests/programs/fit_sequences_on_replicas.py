# SPDX-License-Identifier: MIT
import sys

import keras
import numpy as np
import tensorflow as tf
from replicas import replicas, rng, strategy

import tf_plr
from tf_plr import distributed

tf.config.experimental.enable_tensor_float_32_execution(False)
x = rng.normal(size=(10, 12, 3)).astype("float32")
targets = {"sequence": x.mean((1, 2))[:, None], "step": np.cumsum(x, 1)[..., :1]}


def make(per_step):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 3))])
    model.add(tf_plr.GILRLSTM(4, return_sequences=True, sequence_parallel=True))
    model.add(
        keras.layers.Bidirectional(
            tf_plr.QRNN(4, return_sequences=per_step, sequence_parallel=True)
        )
    )
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


for kind, y in targets.items():
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    alone = make(kind == "step")
    one = alone.fit(batches, epochs=2, verbose=0)
    with strategy.scope():
        model = make(kind == "step")
    two = model.fit(
        distributed.shard_sequences(batches, replicas, targets=kind), epochs=2, verbose=0
    )
    for a, b in zip(model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    model.save(sys.argv[2])
    loaded = keras.models.load_model(sys.argv[2])
    assert loaded.layers[0].sequence_parallel
    np.testing.assert_allclose(loaded(x), alone(x), atol=1e-4)
