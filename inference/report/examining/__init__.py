"""Running a pair on held-out data for what a report shows of it: `examine` and `examine_worst`."""

from inference.report.examining.examine import examine
from inference.report.examining.worst import examine_worst

__all__ = ["examine", "examine_worst"]
