"""Where work runs: in this process, in a pool of processes, or on a Dask cluster."""

from tfq.executors.opening import open_workers
from tfq.executors.shards import Shard
from tfq.executors.workers import Workers

__all__ = ["Shard", "Workers", "open_workers"]
