# SPDX-License-Identifier: MIT
import os
import sys

import keras
import numpy as np
import tensorflow as tf
from model_of_all_layers import make, x, y

import tf_plr

several = "TF_CONFIG" in os.environ
strategy = tf.distribute.MultiWorkerMirroredStrategy() if several else tf.distribute.get_strategy()
assert strategy.num_replicas_in_sync == 1 + several
with strategy.scope():
    model = make()
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
# The last batch has one sequence, so one worker gets none.
batches = tf.data.Dataset.from_tensor_slices((x[:9], y[:9])).batch(8).with_options(options)
batches = strategy.experimental_distribute_dataset(batches)


@tf.function
def step(x, y):
    def replica(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / 8
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return strategy.reduce("SUM", strategy.run(replica, args=(x, y)), axis=None)


for _ in range(3):
    for batch in batches:
        step(*batch)

# Sequence parallelism: each worker has a part of every sequence.
with strategy.scope():
    chain = keras.Sequential(
        [
            keras.Input((None, 3)),
            tf_plr.GILRLSTM(4, return_sequences=True, sequence_parallel=True),
            keras.layers.Bidirectional(tf_plr.QRNN(4, sequence_parallel=True)),
            keras.layers.Dense(1),
        ]
    )
    sgd = keras.optimizers.SGD(0.1)
    sgd.build(chain.trainable_variables)
replicas = strategy.num_replicas_in_sync
parts = tf.split(tf.constant(x), replicas, axis=1)
parts = strategy.experimental_distribute_values_from_function(
    lambda context: parts[context.replica_id_in_sync_group]
)


@tf.function
def chain_step():
    def replica(part):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((chain(part, training=True) - y) ** 2) / replicas
        gradients = tape.gradient(loss, chain.trainable_variables)
        sgd.apply(gradients, chain.trainable_variables)

    strategy.run(replica, args=(parts,))


for _ in range(3):
    chain_step()
np.savez(sys.argv[1], *model.get_weights(), *chain.get_weights())
