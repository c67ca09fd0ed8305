# SPDX-License-Identifier: MIT
import pytest

import tf_plr

with pytest.raises(ImportError, match=r"TensorFlow 9.8.7, .* place: .*tf_plr_engine.so is damaged"):
    tf_plr.linear_recurrence([1.0], [1.0])
assert tf_plr.linear_recurrence([1.0], [1.0], algorithm="composed") == 1
