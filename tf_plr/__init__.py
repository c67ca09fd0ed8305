# SPDX-License-Identifier: MIT
"""Parallel linear recurrence for TensorFlow: h_t = decay_t * h_{t-1} + impulse_t."""

from importlib.metadata import version

from tf_plr import vectorization  # noqa: F401 (registers)
from tf_plr._library import load_library
from tf_plr.layers import (
    GILR,
    GILRLSTM,
    QRNN,
    SRU,
    GILRCell,
    LinearSurrogateLSTM,
    LinearSurrogateLSTMCell,
    QRNNCell,
    SRUCell,
)
from tf_plr.recurrence import linear_recurrence

__version__ = version("tf_plr")

__all__ = [
    "GILR",
    "GILRLSTM",
    "QRNN",
    "SRU",
    "GILRCell",
    "LinearSurrogateLSTM",
    "LinearSurrogateLSTMCell",
    "QRNNCell",
    "SRUCell",
    "linear_recurrence",
    "load_library",
]
