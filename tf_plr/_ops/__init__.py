# SPDX-License-Identifier: MIT
"""The ops, one in each file, with their derivatives."""
