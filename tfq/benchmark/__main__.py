"""`python -m tfq.benchmark`."""

from __future__ import annotations

from tfq.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
