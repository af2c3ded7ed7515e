"""The report on a run or a posterior: one HTML file that opens offline and says first what is wrong.

`report` writes it; `examine` and `examine_worst` look at a pair for it; `judge` gives the verdict; `figures` has its
pictures as functions.
"""

from inference.report.evidence import Evidence
from inference.report.examination import Examination
from inference.report.examining import examine, examine_worst
from inference.report.judging import judge
from inference.report.keeping import save_calibration, save_ladder
from inference.report.reading import read_evidence
from inference.report.verdict import Judgement, Verdict
from inference.report.writing import Report, report

__all__ = [
    "Evidence",
    "Examination",
    "Judgement",
    "Report",
    "Verdict",
    "examine",
    "examine_worst",
    "judge",
    "read_evidence",
    "report",
    "save_calibration",
    "save_ladder",
]
