# SPDX-License-Identifier: MIT
"""Keras layers that run in parallel over time, their step-by-step cells, and the base classes."""

from tf_plr.layers.base import LinearRecurrentCell, LinearRecurrentLayer, Steps
from tf_plr.layers.bidirectional import Bidirectional
from tf_plr.layers.gilr import GILR, GILRCell
from tf_plr.layers.linear_surrogate_lstm import (
    GILRLSTM,
    GILRLSTMCell,
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
    "Bidirectional",
    "GILRCell",
    "GILRLSTMCell",
    "LinearRecurrentCell",
    "LinearRecurrentLayer",
    "LinearSurrogateLSTM",
    "LinearSurrogateLSTMCell",
    "QRNNCell",
    "SRUCell",
    "Steps",
]
