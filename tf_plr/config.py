# SPDX-License-Identifier: MIT
"""The settings of tf_plr in this process."""

import os

_fusion = os.environ.get("TF_PLR_FUSED", "1") != "0"


def enable_fusion() -> None:
    """Runs layers and cells as one fused op where one exists. This is the default.

    Functions that are already traced do not change.
    """
    global _fusion
    _fusion = True


def disable_fusion() -> None:
    """Runs layers and cells in TensorFlow's ops around `tf_plr.linear_recurrence`.

    This includes the windows of every `QRNN`. Results agree up to rounding, but take longer to
    compute: use this to check a fused op that you doubt. The environment variable `TF_PLR_FUSED=0`
    disables fusion from the start. Functions that are already traced do not change.
    """
    global _fusion
    _fusion = False


def is_fusion_enabled() -> bool:
    """Whether layers and cells run as one fused op where one exists."""
    return _fusion
