# SPDX-License-Identifier: MIT
"""Parallel linear recurrence for TensorFlow: h_t = decay_t * h_{t-1} + impulse_t."""

import contextlib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

if find_spec("tensorflow") is None:
    raise ImportError(
        "tf_plr needs TensorFlow, and none is installed: install it, or tf_plr with one of its "
        "extras [tf], [tf-cpu] and [tf-cuda]"
    )

from tf_plr import distributed, initializers, layers, portable
from tf_plr import vectorization as vectorization  # Registers.
from tf_plr._library import load_library, register
from tf_plr.layers import (
    GILR,
    GILRLSTM,
    QRNN,
    SRU,
    GILRCell,
    GILRLSTMCell,
    LinearSurrogateLSTM,
    LinearSurrogateLSTMCell,
    QRNNCell,
    SRUCell,
)
from tf_plr.layers.fusion import is_fused, set_fused
from tf_plr.recurrence import linear_recurrence

try:
    __version__ = version("tf_plr")
except PackageNotFoundError:  # A source tree that nobody has installed.
    __version__ = "unknown"

with contextlib.suppress(ImportError):  # Raised again when an op is first needed.
    register()
portable.takes_over()  # Warns once if it does.
portable.register()  # For models that were saved where it takes over.

__all__ = [
    "GILR",
    "GILRLSTM",
    "QRNN",
    "SRU",
    "GILRCell",
    "GILRLSTMCell",
    "LinearSurrogateLSTM",
    "LinearSurrogateLSTMCell",
    "QRNNCell",
    "SRUCell",
    "distributed",
    "initializers",
    "is_fused",
    "layers",
    "linear_recurrence",
    "load_library",
    "set_fused",
]
