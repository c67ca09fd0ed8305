# SPDX-License-Identifier: MIT
from tf_plr._native import library

assert library.load_ops.cache_info().currsize == 1
