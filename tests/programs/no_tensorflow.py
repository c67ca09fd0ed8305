# SPDX-License-Identifier: MIT
import importlib
import sys

import pytest

sys.modules["tensorflow"] = None  # As if it was not installed.
with pytest.raises(ImportError, match=r"needs TensorFlow, and none is installed: .*\[tf-cuda\]"):
    importlib.import_module("tf_plr")
