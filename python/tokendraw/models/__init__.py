# SPDX-License-Identifier: Apache-2.0
"""Language models that the loop can be run on."""

from tokendraw.models.catalog import load

__all__ = ["load"]
