"""A page a person reads, made from the plain dict that `schema.json` describes."""

from tfq.report.html import page
from tfq.report.schema import check, load_schema, to_json
from tfq.report.terminal import console

__all__ = ["check", "console", "load_schema", "page", "to_json"]
