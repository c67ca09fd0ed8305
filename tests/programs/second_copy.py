# SPDX-License-Identifier: MIT
import pathlib
import sys

import pytest

from tf_plr._native import library

folder = pathlib.Path(sys.argv[1])
library.OPS = folder / library.OPS.name
library.ENGINE = folder / library.ENGINE.name
library.load_ops.cache_clear()
with pytest.raises(ImportError, match=r"another copy of .* is loaded in this process"):
    library.load_ops()
