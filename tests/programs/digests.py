# SPDX-License-Identifier: MIT
import hashlib
import sys

import tensorflow as tf

import tf_plr

tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
tf.config.set_visible_devices([], "GPU")
for shape in [(1, 5000, 300), (3, 999, 1), (2, 3000, 13), (1, 40, 20000), (40, 500, 70)]:
    a = tf.random.stateless_uniform(shape, [1, 2])
    x = tf.random.stateless_normal(shape, [3, 4])
    for algorithm in ("serial", "parallel"):
        with tf.GradientTape() as tape:
            tape.watch([a, x])
            h = tf_plr.linear_recurrence(a, x, axis=1, algorithm=algorithm)
        for value in [h, *tape.gradient(h, [a, x], output_gradients=x)]:
            print(hashlib.sha256(value.numpy().tobytes()).hexdigest())
