# SPDX-License-Identifier: MIT
"""The one place of the version: the package, the libraries and the release take it from here."""

__version__ = "0.1.0"
