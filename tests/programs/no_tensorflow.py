# SPDX-License-Identifier: MIT
import sys

import pytest

sys.modules["tensorflow"] = None  # As if it was not installed.
with pytest.raises(ImportError, match=r"needs TensorFlow, and none is installed: .*\[tf-cuda\]"):
    pass
