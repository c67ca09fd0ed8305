# SPDX-License-Identifier: MIT
"""Prints, as JSON, where TensorFlow is and how setup.py builds the library: for tensorflow.bzl."""

import json
import os
import sys
from pathlib import Path

import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import setup

os.chdir(setup.ROOT)
nvcc = setup.find_nvcc()
print(
    json.dumps(
        {
            "python": sys.executable,
            "include": tf.sysconfig.get_include(),
            "cxx": setup.cxx_command(nvcc)[1:],
            "link": setup.link_flags(),
            "nvcc": setup.nvcc_command(nvcc) if nvcc else [],
            "description": setup.description(nvcc),
        }
    )
)
