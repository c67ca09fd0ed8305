# SPDX-License-Identifier: MIT
"""The base classes that the layers and cells of all models share."""

from tf_plr.layers.base.arguments import CellArguments, LayerOptions
from tf_plr.layers.base.cell import LinearRecurrentCell
from tf_plr.layers.base.layer import CellAttribute, LinearRecurrentLayer
from tf_plr.layers.base.steps import Steps

__all__ = [
    "CellArguments",
    "CellAttribute",
    "LayerOptions",
    "LinearRecurrentCell",
    "LinearRecurrentLayer",
    "Steps",
]
