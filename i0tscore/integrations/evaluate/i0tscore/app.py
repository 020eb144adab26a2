"""The page of the metric's Space."""

import sys

# The folder of this file holds i0tscore.py, which would hide the installed package.
folder = sys.path.pop(0)
import i0tscore.integrations.evaluate  # noqa: E402

sys.path.insert(0, folder)  # where the widget looks for README.md

import evaluate  # noqa: E402
from evaluate.utils import launch_gradio_widget  # noqa: E402

# The model whose statistics are shipped: one pair is enough.
launch_gradio_widget(evaluate.load(i0tscore.integrations.evaluate.path(), model="lite"))
