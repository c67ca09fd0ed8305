# SPDX-License-Identifier: MIT
import sys

import replicas  # noqa: F401
from check_layers_on_replicas import check

import tf_plr

options = {"sequence_parallel": True, "return_state": True, "forget_bias": float(sys.argv[3])}
for layer in (tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN):
    check(lambda: layer(4, **options, dtype=sys.argv[2]), tolerance=2**-7, steps_each=2000)
