"""A page a person reads, and other forms of the plain dict that `schema.json` describes."""

from tfq.report.charts import plots, require_plots
from tfq.report.explorer import node_data
from tfq.report.html import page
from tfq.report.schema import check, load_schema, to_json
from tfq.report.terminal import console

__all__ = [
    "check",
    "console",
    "load_schema",
    "node_data",
    "page",
    "plots",
    "require_plots",
    "to_json",
]
