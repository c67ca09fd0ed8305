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
print(
    json.dumps(
        {
            "python": sys.executable,
            "include": tf.sysconfig.get_include(),
            "cxx": setup.cxx_command(nvcc=None)[1:],
            "link": {name: setup.link_flags(name) for name in (setup.ENGINE, setup.OPS)},
            "description": setup.description(nvcc=None),
        }
    )
)
