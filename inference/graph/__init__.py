"""Pyro programs at compiled speed: a pair is run once, its tensor graph kept, and the graph run from then on."""

from inference.graph.cuda import Recording
from inference.graph.graphed import Entry, Graphed, GraphWarning, Mode, check_mode
from inference.graph.record import CaptureError

__all__ = ["CaptureError", "Entry", "GraphWarning", "Graphed", "Mode", "Recording", "check_mode"]
