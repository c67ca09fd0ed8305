# SPDX-License-Identifier: MIT
import numpy as np
import tensorflow as tf
from replicas import draw, replicas, shards_of, strategy, with_gradients

import tf_plr
from tf_plr import distributed

for axis, reverse, dtype, broadcast in (
    (0, False, "float32", []),
    (1, True, "float64", []),
    (-1, False, "complex64", []),
    (1, True, "bfloat16", []),
    (1, True, "float64", [0, 2]),
    (1, False, "float32", [2]),
):
    shape = [3, 5, 4]
    shape[axis] = 6 * replicas
    impulses, d_states = (draw(shape, dtype) for _ in range(2))
    decays = draw([1 if i in broadcast else size for i, size in enumerate(shape)], dtype)
    state = draw(np.delete(shape, axis), dtype)
    options = {"axis": axis, "reverse": reverse}
    expected = with_gradients(
        tf_plr.linear_recurrence, decays, impulses, state, d_states, **options
    )

    @tf.function
    def run(*shards):
        def replica(decays, impulses, d_states):
            return with_gradients(
                distributed.linear_recurrence, decays, impulses, state, d_states, **options
            )

        return strategy.run(replica, args=shards)

    results = run(*shards_of([decays, impulses, d_states], axis))
    *along_time, by_state = map(strategy.experimental_local_results, results)
    actual = [tf.concat(parts, axis) for parts in along_time] + [tf.add_n(by_state)]
    roundoff = {"float64": 2e-15, "bfloat16": 0.05}.get(dtype, 2e-6)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        assert np.max(np.abs(a - e)) <= roundoff * np.max(np.abs(e)), dtype
