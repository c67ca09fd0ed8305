# SPDX-License-Identifier: MIT
import pytest
import tensorflow as tf

import tf_plr

assert tf_plr.linear_recurrence([1.0], [1.0], algorithm="composed") == 1
assert tf_plr.GILRLSTM(3, algorithm="composed")(tf.ones([1, 5, 2])).shape == [1, 3]
with pytest.raises(ImportError, match=r'TF_PLR_NATIVE=0 was set: only .*algorithm="composed"'):
    tf_plr.GILRLSTM(3)(tf.ones([1, 5, 2]))
