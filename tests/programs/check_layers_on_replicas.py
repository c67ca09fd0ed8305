# SPDX-License-Identifier: MIT
import keras
import numpy as np
import tensorflow as tf
from replicas import replicas, rng, strategy

tf.config.experimental.enable_tensor_float_32_execution(False)


def check(make, mask=None, initial=True, tolerance=2e-5, steps_each=5, resets=None):
    batch, steps, features = 3, steps_each * replicas, 4
    keras.utils.set_random_seed(1)
    x = tf.constant(rng.normal(size=(batch, steps, features)), "float32")
    if mask is not None:  # What is masked may be anything.
        x = tf.where(mask[..., None], x, 7)
    with strategy.scope():
        layer = make()
        layer.build(x.shape)
    for variable in layer.trainable_variables:
        variable.assign_add(tf.constant(rng.normal(size=variable.shape), variable.dtype) / 4)
    probe = layer(x, mask=mask, **({} if resets is None else {"resets": resets}))
    probe = list(probe) if isinstance(probe, (list, tuple)) else [probe]
    states = [tf.constant(rng.normal(size=s.shape), s.dtype) for s in probe[1:]] if initial else []
    weights = [tf.constant(rng.normal(size=p.shape), "float32") for p in probe]

    def run(x, mask, resets, weights, states):
        with tf.GradientTape() as tape:
            tape.watch([x, states])
            given = {"initial_state": states} if states else {}
            given |= {} if resets is None else {"resets": resets}
            results = layer(x, mask=mask, training=True, **given)
            results = list(results) if isinstance(results, (list, tuple)) else [results]
            loss = tf.add_n(
                [
                    tf.reduce_sum(tf.cast(r, "float32") * w)
                    for r, w in zip(results, weights, strict=True)
                ]
            )
        by = tape.gradient(loss, [x, states, [v.value for v in layer.trainable_variables]])
        return results, by

    expected, (by_x, by_states, by_weights) = run(x, mask, resets, weights, states)
    along_time = probe[0].shape[1:2] == (steps,) and probe[0].shape.rank == 3
    # All replicas return the same last outputs and states: each adds a share to the loss.
    rest = [w / replicas for w in weights[1:]]
    # With go_backwards, a replica returns its own steps from last to first.
    backwards = along_time and layer.go_backwards
    outputs_weights = [weights[0] / replicas] * replicas
    if along_time:
        outputs_weights = tf.split(weights[0], replicas, 1)[:: -1 if backwards else 1]

    def of_replica(parts):
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    given = [of_replica(tf.split(x, replicas, 1)), of_replica(outputs_weights)]
    for flags in (mask, resets):
        given.append(None if flags is None else of_replica(tf.split(flags, replicas, 1)))

    @tf.function
    def on_replicas(*given):
        return strategy.run(lambda x, w, m, r: run(x, m, r, [w, *rest], states), args=given)

    local = strategy.experimental_local_results
    results, (shards_by_x, shards_by_states, shards_by_weights) = on_replicas(*given)

    def same(actual, expected):
        assert actual.dtype == expected.dtype
        expected = tf.cast(expected, "float64")
        error = np.max(np.abs(tf.cast(actual, "float64") - expected))
        assert error <= tolerance * np.max(np.abs(expected)), error

    outputs, *last = map(local, results)
    if along_time:
        same(tf.concat(outputs[:: -1 if backwards else 1], 1), expected[0])
    else:
        last = [outputs, *last]
        expected = [None, *expected]
    for parts, e in zip(last, expected[1:], strict=True):
        for part in parts:
            same(part, e)
    valid = tf.ones_like(x, tf.bool) if mask is None else tf.broadcast_to(mask[..., None], x.shape)
    same(tf.where(valid, tf.concat(local(shards_by_x), 1), 0), tf.where(valid, by_x, 0))
    for actual, e in zip(shards_by_states + shards_by_weights, by_states + by_weights, strict=True):
        same(tf.add_n(local(actual)), e)


lengths = tf.sequence_mask([5 * replicas, 5 * replicas - 6, 2], 5 * replicas)
holes = tf.constant(rng.uniform(size=(3, 5 * replicas)) < 0.6)
# In each row: at a border, near borders, and none.
resets = np.zeros((3, 5 * replicas), bool)
resets[0, [0, 5]] = resets[1, [4, 6]] = True
resets = tf.constant(resets)
