# SPDX-License-Identifier: MIT
import tensorflow as tf

import tf_plr

tf.config.optimizer.set_jit("autoclustering")


def states(x):
    a = tf.sigmoid(x) * tf.sin(x)
    return tf.cos(tf_plr.linear_recurrence(a, a * a)) + 1


x = tf.random.uniform([64, 8])
tf.debugging.assert_near(tf.function(states)(x), states(x), 1e-5, 1e-5)
