# SPDX-License-Identifier: MIT
import sys

import numpy as np
import tensorflow as tf

import tf_plr  # noqa: F401  # Registers the ops.

tf.config.experimental.enable_tensor_float_32_execution(False)  # As in support.py.
for path in sys.argv[1:]:
    model = tf.saved_model.load(path)
    np.save(path + ".npy", model.serve(np.ones([2, 7, 3], "float32")))
