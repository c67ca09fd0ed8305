# SPDX-License-Identifier: MIT
import hashlib

import numpy as np
import tensorflow as tf

import tf_plr

rng = np.random.default_rng(0)
a, x = (tf.constant(rng.uniform(size=(100, 64)), tf.float32) for _ in range(2))
print(hashlib.sha256(tf_plr.linear_recurrence(a, x, algorithm="serial").numpy()).hexdigest())
