"""The public Python API: `import icsim` and then `with icsim.network("topology.toml") as net: ...`.

Plumbing: re-exports what lives in `subnet.lab`.
"""

from __future__ import annotations
