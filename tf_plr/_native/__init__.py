# SPDX-License-Identifier: MIT
"""Chooses the native library, and calls its ops."""

from tf_plr._native.choice import Missing, Native, call, choice
from tf_plr._native.portable import Portable
from tf_plr._native.registration import register_gradient, register_vectorization

__all__ = [
    "Missing",
    "Native",
    "Portable",
    "call",
    "choice",
    "register_gradient",
    "register_vectorization",
]
