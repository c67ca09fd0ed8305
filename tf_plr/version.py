# SPDX-License-Identifier: MIT
"""The version. The package, the native libraries and the release all read it from here."""

__version__ = "0.1.0"
