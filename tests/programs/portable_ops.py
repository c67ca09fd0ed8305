# SPDX-License-Identifier: MIT
import sys

import pytest
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with pytest.warns(RuntimeWarning, match=r"built for TensorFlow 9\.8\.7, .* which is slower"):
    import tf_plr
with pytest.raises(ValueError, match="must have a known rank"):
    tf.function(tf_plr.linear_recurrence, input_signature=[tf.TensorSpec(None)] * 2)(
        tf.ones([2]), tf.ones([2])
    )
# Wrong shapes that are known only at run time: with as many elements, or fewer.
for shapes, message in (
    (([2, 3, 4], [2, 4, 3], [2, 4]), "decays .* of impulses, .2,4,3., .* but has shape .2,3,4."),
    (([3, 1], [2, 1], [1]), "decays must have the shape of impulses, .2,1., or .* but .* .3,1."),
    (([2, 1, 3], [2, 1, 3], [3, 2]), "initial_state .* impulses without axis, .2,3., but .* .3,2."),
    (([2, 1, 3], [2, 1, 3], [1, 3]), "initial_state .* impulses without axis, .2,3., but .* .1,3."),
):
    for compiled in (False, True):
        function = tf.function(
            lambda a, x, h: tf_plr.linear_recurrence(a, x, h, axis=len(a.shape) - 2),
            input_signature=[tf.TensorSpec([None] * len(shape)) for shape in shapes],
            jit_compile=compiled,
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            function(*map(tf.ones, shapes))

# What the portable library has not.
ones = tf.ones([4])
run = tf.function(lambda: tf_plr.distributed.linear_recurrence(ones, ones), autograph=False)
with pytest.raises(ImportError, match=r"several replicas need .* for TensorFlow 9\.8\.7, but"):
    tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).run(run)

# A saved model needs the import only.
module = tf.Module()
module.serve = tf.function(
    lambda a: tf_plr.linear_recurrence(a, a), input_signature=[tf.TensorSpec([None])]
)
tf.saved_model.save(module, sys.argv[1])
