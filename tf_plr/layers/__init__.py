# SPDX-License-Identifier: MIT
"""Keras layers that are parallel in time, and their step-by-step cells."""

from tf_plr.layers.gilr import GILR, GILRCell
from tf_plr.layers.linear_surrogate_lstm import (
    GILRLSTM,
    LinearSurrogateLSTM,
    LinearSurrogateLSTMCell,
)
from tf_plr.layers.qrnn import QRNN, QRNNCell
from tf_plr.layers.sru import SRU, SRUCell

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
]
