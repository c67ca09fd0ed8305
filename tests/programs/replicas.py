# SPDX-License-Identifier: MIT
import sys

import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 8)

rng = np.random.default_rng(0)


def draw(shape, dtype):
    values = rng.uniform(-1, 1, shape)
    return tf.constant(values + 1j * values[::-1] if "complex" in dtype else values, dtype)


def with_gradients(function, decays, impulses, state, d_states, **options):
    with tf.GradientTape() as tape:
        tape.watch([decays, impulses, state])
        states = function(decays, impulses, state, **options)
    by = tape.gradient(states, [decays, impulses, state], output_gradients=d_states)
    return [states, *by]


# Use one strategy per process: collectives of several strategies interfere.
replicas = int(sys.argv[1])
gpus = tf.config.list_physical_devices("GPU")
kind, reduction = "GPU" if gpus else "CPU", None
if gpus and len(gpus) < replicas:  # NCCL refuses parts of a GPU.
    parts = [tf.config.LogicalDeviceConfiguration(2048)] * replicas
    tf.config.set_visible_devices(gpus[:1], "GPU")
    tf.config.set_logical_device_configuration(gpus[0], parts)
    reduction = tf.distribute.ReductionToOneDevice()
strategy = tf.distribute.MirroredStrategy(
    [f"{kind}:{i}" for i in range(replicas)], cross_device_ops=reduction
)


def shards_of(arrays, axis):
    return [
        strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )
        for parts in (tf.split(a, replicas, axis) for a in arrays)
    ]
