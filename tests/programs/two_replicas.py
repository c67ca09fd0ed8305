# SPDX-License-Identifier: MIT
import tensorflow as tf

device = tf.config.list_physical_devices()[-1]  # A GPU, or else the CPU.
kind = device.device_type
halves = [tf.config.LogicalDeviceConfiguration(*([2048] if kind == "GPU" else [])) for _ in "ab"]
tf.config.set_logical_device_configuration(device, halves)


def strategy_of(devices):
    return tf.distribute.MirroredStrategy(
        [f"/{kind}:{i}" for i in range(devices)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
