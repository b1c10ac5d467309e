"""Representative and labelled data: read once, streamed, checked against the model's inputs."""

from tfq.data.blocks import Block, Decoded
from tfq.data.images import DataOptions
from tfq.data.opening import check_data, open_data, saved_data_path
from tfq.data.retain import RetainedSamples, held_back, split
from tfq.data.saved import check_signature, save_representative_dataset
from tfq.data.source import Sample, SampleSource
from tfq.data.synthetic import synthetic
from tfq.graph.interface import ArgSpec

__all__ = [
    "ArgSpec",
    "Block",
    "DataOptions",
    "Decoded",
    "RetainedSamples",
    "Sample",
    "SampleSource",
    "check_data",
    "check_signature",
    "held_back",
    "open_data",
    "save_representative_dataset",
    "saved_data_path",
    "split",
    "synthetic",
]
