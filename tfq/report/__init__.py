"""A page a person reads, made from the plain dict that `schema.json` describes."""

from tfq.report.schema import check, load_schema, to_json

__all__ = ["check", "load_schema", "to_json"]
