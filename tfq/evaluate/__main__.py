"""`python -m tfq.evaluate`."""

from __future__ import annotations

from tfq.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
