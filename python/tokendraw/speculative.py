# SPDX-License-Identifier: Apache-2.0
"""Speculative decoding."""

from typing import Any, NamedTuple


class Verified(NamedTuple):
    tokens: Any
    accepted: Any
