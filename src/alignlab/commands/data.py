"""Data files: checked whole, or converted."""

from alignlab.data.check import check
from alignlab.data.convert import convert

__all__ = ["check", "convert"]
