# SPDX-License-Identifier: MIT
import resource
from pathlib import Path

import tensorflow as tf

import tf_plr


def run(steps):
    return tf_plr.linear_recurrence(steps, steps, algorithm="parallel")


steps = tf.ones([2, 1 << 24], tf.float16)  # 64 MiB; states as many; then float32 carries.
for call in (run, tf.function(run, jit_compile=True)):
    call(steps)  # Starts all threads before memory is limited.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    errors = []
    for more in range(8):
        resource.setrlimit(resource.RLIMIT_AS, (taken + (more << 25), -1))
        try:
            call(steps)
            break
        except tf.errors.ResourceExhaustedError as error:
            errors.append(str(error))
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    assert any("could not allocate its carries" in error for error in errors), errors
    assert tf.reduce_all(call(steps)[1] == 2)
