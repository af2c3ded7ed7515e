"""Evaluation by samples alone: for every model that can be sampled, whether or not it has a density.

| question | call | beside it |
|---|---|---|
| how dense are the samples around test data? | `parzen`, `parzen_window` | real training data, k-means centroids |
| are they of the data's law? | `mmd` | a test by permutations |
| do they look like data, and reach all of them? | `precision_recall` | as many real data, by `judge_samples` |
| are they copies of the training data? | `nearest_training` | held-out data |
| do the classes come as often? | `label_statistics`, `train_classifier` | labels of the data |
| are all modes of a known mixture there? | `modes_covered` | equal shares |
| all of it but the last | `judge_samples` | |

Samples are tensors `(S, d)`, data `(n, d)`, on any device; distances are in float64, a block at a time.
"""

from inference.samples.centroids import k_means
from inference.samples.classifier import Classifier, train_classifier
from inference.samples.coverage import ModeCoverage, modes_covered
from inference.samples.judging import SampleReport, judge_samples
from inference.samples.labels import LabelStatistics, Probabilities, label_statistics
from inference.samples.memorisation import NearestTraining, nearest_training
from inference.samples.mmd import MMD, mmd
from inference.samples.parzen import ParzenReport, ParzenScore, parzen
from inference.samples.precision import PrecisionRecall, precision_recall
from inference.samples.windows import parzen_window

__all__ = [
    "MMD",
    "Classifier",
    "LabelStatistics",
    "ModeCoverage",
    "NearestTraining",
    "ParzenReport",
    "ParzenScore",
    "PrecisionRecall",
    "Probabilities",
    "SampleReport",
    "judge_samples",
    "k_means",
    "label_statistics",
    "mmd",
    "modes_covered",
    "nearest_training",
    "parzen",
    "parzen_window",
    "precision_recall",
    "train_classifier",
]
