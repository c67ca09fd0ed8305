# SPDX-License-Identifier: MIT
import sys
from pathlib import Path

import tensorflow as tf

from tf_plr import distributed

strategy = tf.distribute.MultiWorkerMirroredStrategy()
steps = tf.random.uniform([2, 100, 4])
run = tf.function(lambda: strategy.run(lambda: distributed.linear_recurrence(steps, steps, axis=1)))
try:
    while True:
        run()
        Path(sys.argv[1]).touch()
except tf.errors.UnavailableError:
    sys.exit(7)
