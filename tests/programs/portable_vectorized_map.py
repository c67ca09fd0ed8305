# SPDX-License-Identifier: MIT
import numpy as np
import tensorflow as tf

import tf_plr

decays, ones, scales = tf.fill([3], 0.5), tf.ones([3]), tf.constant([1.0, 2.0])


def values_and_gradients(map_, function):
    with tf.GradientTape() as tape:
        tape.watch(scales)
        values = map_(function, scales)
    return values, tape.gradient(values, scales)


@tf.function
def gradient_of_a_jacobian(pfor):
    with tf.GradientTape() as outer:
        outer.watch(decays)
        with tf.GradientTape(persistent=not pfor) as inner:
            inner.watch(decays)
            states = tf_plr.linear_recurrence(decays, ones)
        squares = tf.square(inner.jacobian(states, decays, experimental_use_pfor=pfor))
    return outer.gradient(squares, decays)


layer = tf_plr.GILRLSTM(3)
layer.build((None, None, 1))
functions = {
    "op": lambda c: tf_plr.linear_recurrence(c * decays, ones),
    "layer": lambda c: layer(tf.reshape(c * ones, [1, 3, 1])),
}
for function in functions.values():
    expected = values_and_gradients(tf.map_fn, function)
    assert np.all(expected[1] != 0)
    for run in (values_and_gradients, tf.function(values_and_gradients)):
        for found, right in zip(run(tf.vectorized_map, function), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
# states = (1, 1 + a1, 1 + a2 (1 + a1)): squares' sum = 1 + a2^2 + (1 + a1)^2.
np.testing.assert_allclose(gradient_of_a_jacobian(True), [0, 3, 1], rtol=1e-6)
