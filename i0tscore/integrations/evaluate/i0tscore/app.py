"""The page of the metric's Space on the hub."""

import sys

# i0tscore.py in the folder of this file would shadow the installed package.
folder = sys.path.pop(0)
import i0tscore.integrations.evaluate  # noqa: E402

sys.path.insert(0, folder)  # the widget looks for README.md here

import evaluate  # noqa: E402
from evaluate.utils import launch_gradio_widget  # noqa: E402

# A single pair can be scored, since statistics are shipped for this model.
launch_gradio_widget(evaluate.load(i0tscore.integrations.evaluate.path(), model="lite"))
