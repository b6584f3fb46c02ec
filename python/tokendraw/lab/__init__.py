# SPDX-License-Identifier: Apache-2.0
"""Experiments on what a model's distribution knows, to be run on any model and text."""
