"""Write the viewer's pages of some runs as static files that open without a server."""

from __future__ import annotations
