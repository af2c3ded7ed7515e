"""The smallest experiment on real data that could have gone wrong: ten epochs of Burda's network, both ways."""

import os
from pathlib import Path

import pytest

from benchmarks.mnist import Protocol, train_and_judge
from inference.compare import paired_difference

needs_mnist = pytest.mark.skipif("PPMODELS_DATA" not in os.environ, reason="PPMODELS_DATA names no folder with MNIST")


@pytest.mark.slow
@needs_mnist
def test_iwae_beats_vae_at_equal_epochs(tmp_path: Path) -> None:
    """On 500 test images the paired gain is above half a nat by more than its error, with no fewer active units."""
    rows = {name: train_and_judge(name, Protocol(epochs=10), tmp_path, num_test=500) for name in ("vae", "iwae")}
    gain, error = paired_difference(rows["iwae"][1].value, rows["vae"][1].value)
    assert gain - 2 * error > 0.5
    assert int(str(rows["iwae"][0]["active"])) >= int(str(rows["vae"][0]["active"]))
    assert -115 < rows["vae"][1].mean < -90
