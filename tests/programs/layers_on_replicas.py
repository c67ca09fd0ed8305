# SPDX-License-Identifier: MIT
import keras
import numpy as np
import tensorflow as tf
from check_layers_on_replicas import check, holes, lengths, resets
from replicas import replicas, rng, strategy

import tf_plr
from tf_plr.distributed._exchange import Exchange
from tf_plr.layers.base.shard_steps import ShardSteps

last = {"sequence_parallel": True}
options = {**last, "return_sequences": True, "return_state": True}
check(lambda: tf_plr.GILRLSTM(4, **options))
check(lambda: tf_plr.GILRLSTM(4, **options), holes)
check(lambda: keras.layers.Bidirectional(tf_plr.GILRLSTM(4, **last)), initial=False)
check(lambda: tf_plr.GILR(4, **options, go_backwards=True), lengths)
check(lambda: tf_plr.SRU(4, **last), holes, initial=False)
check(lambda: tf_plr.QRNN(4, **options, kernel_size=3))
check(lambda: tf_plr.QRNN(4, **last, pooling="ifo", zero_output_for_mask=True), holes)
check(lambda: tf_plr.GILRLSTM(4, **options), resets=resets)
check(lambda: tf_plr.GILRLSTM(4, **options, go_backwards=True), holes, resets=resets)
check(lambda: tf_plr.QRNN(4, **options, kernel_size=4), resets=resets)
check(lambda: tf_plr.QRNN(4, **options, kernel_size=3), holes, resets=resets)
wrapped = tf_plr.layers.Bidirectional
check(lambda: wrapped(tf_plr.SRU(4, **last)), holes, initial=False, resets=resets)

# One tape takes the gradients of two losses; the number of steps is known only at run time.
for kind in (tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN):
    with strategy.scope():
        layer = kind(3, sequence_parallel=True, forget_bias=1.0)
        layer.build((None, None, 2))

    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            y = layer(x)
            losses = tf.reduce_sum(y), tf.reduce_sum(y**2)
        return [tape.gradient(loss, layer.cell.kernel.value) for loss in losses]

    @tf.function(input_signature=[tf.TensorSpec([None, None, 2])])
    def two_losses(x):
        return strategy.run(gradients, args=(x,))

    x = tf.constant(rng.normal(size=(2, 4, 2)), tf.float32)
    # Every replica's part is x, and each adds the whole sequence's losses.
    of_whole = gradients(tf.concat([x] * replicas, 1))
    for parts, expected in zip(two_losses(x), of_whole, strict=True):
        actual = tf.add_n(strategy.experimental_local_results(parts)) / replicas
        assert np.max(np.abs(actual - expected)) <= 1e-5 * np.max(np.abs(expected))
    # An empty batch has gradients of zero.
    for parts in two_losses(tf.ones((0, 4, 2))):
        assert all(np.all(part == 0) for part in strategy.experimental_local_results(parts))

# Dropout drops the same features in all replicas, and different ones in the next call.

with strategy.scope():
    seeds = keras.random.SeedGenerator(1)


@tf.function
def drop():
    def replica():
        steps = ShardSteps(Exchange(reverse=False), "auto")
        return steps.drop(tf.ones((2, 3, 64)), 0.5, seeds)

    return strategy.run(replica)


first, second = (np.stack(strategy.experimental_local_results(drop())) for _ in range(2))
assert set(np.unique(first)) == {0, 2} and np.any(first != second)
assert np.all(first == first[:1, :, :1])
