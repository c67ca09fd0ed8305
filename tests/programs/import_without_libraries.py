# SPDX-License-Identifier: MIT
import pytest
import tensorflow as tf

import tf_plr

assert tf_plr.linear_recurrence([1.0], [1.0], algorithm="composed") == 1
layer = tf_plr.GILR(3, algorithm="composed")
assert layer(tf.ones([1, 2, 3])).shape == [1, 3]
assert layer.cell(tf.ones([1, 3]), [tf.zeros([1, 3])])[0].shape == [1, 3]
for _ in range(2):
    with pytest.raises(ImportError, match="disable_fusion"):
        tf_plr.GILRCell(3)(tf.ones([1, 3]), [tf.zeros([1, 3])])
    with pytest.raises(ImportError, match=r"native library .* is not built"):
        tf_plr.linear_recurrence([1.0], [1.0])
tf_plr.config.disable_fusion()
assert tf_plr.GILRCell(3)(tf.ones([1, 3]), [tf.zeros([1, 3])])[0].shape == [1, 3]
