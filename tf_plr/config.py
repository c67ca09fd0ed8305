# SPDX-License-Identifier: MIT
"""The settings of tf_plr in this process."""

import os

_fusion = os.environ.get("TF_PLR_FUSED", "1") != "0"


def enable_fusion() -> None:
    """Runs layers and cells as one fused op where there is one. This is the default.

    Functions that TensorFlow has traced stay as they are.
    """
    global _fusion
    _fusion = True


def disable_fusion() -> None:
    """Runs layers and cells in TensorFlow's ops around `tf_plr.linear_recurrence`.

    Also the windows of every QRNN. Results are equal but for rounding, and computed more slowly: a
    check where a fused op is in doubt. The environment variable `TF_PLR_FUSED=0` disables fusion
    from the start. Functions that TensorFlow has traced stay as they are.
    """
    global _fusion
    _fusion = False


def is_fusion_enabled() -> bool:
    """Whether layers and cells run as one fused op where there is one."""
    return _fusion
