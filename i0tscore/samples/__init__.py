"""Samples: captions, their images and references, read from files."""

from i0tscore.samples.formats import INPUT_FORMATS
from i0tscore.samples.reader import read_samples
from i0tscore.samples.sample import ImageSource, Sample, SampleSet, Skipped

__all__ = ["INPUT_FORMATS", "ImageSource", "Sample", "SampleSet", "Skipped", "read_samples"]
