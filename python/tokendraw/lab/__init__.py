# SPDX-License-Identifier: Apache-2.0
"""Experiments on what a language model's distribution knows."""
