"""What quantization cost, where, and whether it is real: models side by side on labelled data."""
