# SPDX-License-Identifier: MIT
import sys

import replicas  # noqa: F401
from check_layers_on_replicas import check, holes, lengths

import tf_plr

layer = getattr(tf_plr, sys.argv[2])
options = {"sequence_parallel": True, "return_sequences": True, "return_state": True}
special = {
    "GILRLSTM": [{"shift_surrogate": False}],
    "QRNN": [{"kernel_size": 3}, {"kernel_size": 1}, {"pooling": "f"}, {"pooling": "ifo"}],
    "SRU": [{"units": 5}],  # Other units than features: the highway needs a product.
}
for more in [{}, {"layer_normalization": True}, *special.get(sys.argv[2], [])]:
    more = {"units": 4, **options, **more}
    for some in ({}, {"go_backwards": True}, {"return_sequences": False}):
        check(lambda: layer(**{**more, **some}))
    for mask in (lengths, holes):
        check(lambda: layer(**more), mask)
        check(lambda: layer(**more, zero_output_for_mask=True), mask)
        check(lambda: layer(**{**more, "return_sequences": False}), mask, initial=False)
    for mask in (None, lengths, holes):
        check(lambda: layer(**more, dtype="mixed_bfloat16"), mask, tolerance=0.1)
