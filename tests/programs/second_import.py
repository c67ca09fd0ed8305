# SPDX-License-Identifier: MIT
import importlib
import sys

import tensorflow as tf

import tf_plr  # noqa: F401

for name in [name for name in sys.modules if name.startswith("tf_plr.")]:
    importlib.reload(sys.modules[name])
for name in [name for name in sys.modules if name.partition(".")[0] == "tf_plr"]:
    del sys.modules[name]
again = importlib.import_module("tf_plr")
x = tf.Variable(tf.ones([1, 2, 3]))
layer = again.GILRLSTM(3)
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(layer(x))
assert tape.gradient(loss, x).shape == [1, 2, 3]
