# SPDX-License-Identifier: MIT
import importlib
import sys

import tensorflow as tf

if sys.argv[1] == "op":
    tf.function(lambda: tf.add(1, 2), jit_compile=True)()
tf_plr = importlib.import_module("tf_plr")
states = tf.function(lambda a: tf_plr.linear_recurrence(a, a), jit_compile=True)(tf.ones([3]))
assert states[2] == 3
