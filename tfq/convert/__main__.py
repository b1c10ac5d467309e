"""`python -m tfq.convert`."""

from __future__ import annotations

from tfq.convert import main

if __name__ == "__main__":
    raise SystemExit(main())
