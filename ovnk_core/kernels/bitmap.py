"""Roaring bitmaps: sets of small ints with fast union and intersection. The only module that imports pyroaring."""

from __future__ import annotations

from pyroaring import BitMap as Bitmap

__all__ = ["Bitmap"]
