"""The view of `gpuroom top` (docs/top.md).

`_data` reads what `gpuroom top --json` prints, `_state` has what the keys do, `_screen` makes the lines: all three are
pure and need no library. `_view` puts the lines on a terminal with Textual.
"""

from __future__ import annotations
