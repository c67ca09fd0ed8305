# SPDX-License-Identifier: MIT
"""Parallel linear recurrence for TensorFlow: h_t = decay_t * h_{t-1} + impulse_t."""

from importlib.util import find_spec as _find_spec

if _find_spec("tensorflow") is None:
    raise ImportError(
        "tf_plr needs TensorFlow, and none is installed: install it, or tf_plr with one of its "
        "extras [tf], [tf-cpu] and [tf-cuda]"
    )

from tf_plr import _native, config, distributed, initializers, layers
from tf_plr._native.portable import register_handlers as _register_handlers
from tf_plr._ops import vectorization as _vectorization  # noqa: F401  # Registers on import.
from tf_plr._ops.linear_recurrence import linear_recurrence
from tf_plr._packing import Packed, pack, unpack
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
from tf_plr.version import __version__ as __version__

_native.choice()  # Warns once if the portable library takes the place of the native ops.
_register_handlers()  # Models that were saved with the portable library need its handlers.

__all__ = [
    "GILR",
    "GILRLSTM",
    "QRNN",
    "SRU",
    "GILRCell",
    "GILRLSTMCell",
    "LinearSurrogateLSTM",
    "LinearSurrogateLSTMCell",
    "Packed",
    "QRNNCell",
    "SRUCell",
    "config",
    "distributed",
    "initializers",
    "layers",
    "linear_recurrence",
    "pack",
    "unpack",
]
