"""Pyro programs at compiled speed.

A pair is run once, its tensor graph kept (loss, gradients and the drawing of noise), and the graph run from then on:
Pyro's handlers, autograd's bookkeeping and the programs' own Python cost nothing any more. The modes, from the top:

| mode | what runs | it takes | numbers |
|---|---|---|---|
| `"inductor"` | the graph, compiled to machine code | 10 to 30 s once, 3 s from torch's cache | to rounding |
| `"replay"` | the graph, operation by operation | under a second | the program's own bits |
| `"eager"` | the programs | nothing | |
| `"auto"` | what pays for the work to come | | |

Noise is torch's own in every mode, the same under the same seed. `auto` decides by the operations of the graph and the
calls to come, never by a clock, so that equal runs stay equal; a resumed run keeps the modes it was begun in.

A graph is right only as long as no value of a tensor, and nothing in Python, decides what is done. So a program that
branches on a tensor, asks for its value (`.item()`, `float(z)`), makes a shape of it (`x[x > 0]`), keeps count in
Python or draws from another generator is refused, with one `GraphWarning` that names the line and the site, and runs as
it is. So is a graph whose numbers differ from the program's when both are run under one seed. Where a graph exists, the
tensors that it rests on are looked at again at every call, and the settings and closures too; `fit` looks at the latter
at every report and after every epoch. A change makes a new graph.
"""

from inference.graph.cuda import Recording
from inference.graph.graphed import Entry, Graphed, GraphWarning, Mode, check_mode
from inference.graph.record import CaptureError

__all__ = ["CaptureError", "Entry", "GraphWarning", "Graphed", "Mode", "Recording", "check_mode"]
