# SPDX-License-Identifier: MIT
import pytest
import tensorflow as tf

import tf_plr

limit = tf.config.LogicalDeviceConfiguration(memory_limit=256)
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("GPU")[0], [limit])
a = tf.ones([1 << 25])
with pytest.raises(tf.errors.ResourceExhaustedError):
    tf_plr.linear_recurrence(a, a)
assert tf_plr.linear_recurrence(a[:9], a[:9])[8] == 9
