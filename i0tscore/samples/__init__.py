"""Reads what is to be scored: captions, their images, their references."""

from i0tscore.samples.reader import INPUT_FORMATS, read_samples
from i0tscore.samples.sample import ImageSource, Sample, SampleSet, Skipped

__all__ = ["INPUT_FORMATS", "ImageSource", "Sample", "SampleSet", "Skipped", "read_samples"]
