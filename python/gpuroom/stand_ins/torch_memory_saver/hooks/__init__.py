"""The ways in which memory comes to have regions."""

from __future__ import annotations
