"""Bounds by name: every spelling, what is no spelling, and that two names are never taken for one another."""

import re
from itertools import combinations

import pytest

from inference.bounds import (
    AIS,
    CIWAE,
    CUBO,
    ELBO,
    EUBO,
    IWAE,
    MIWAE,
    PIWAE,
    SPELLINGS,
    TVO,
    Bound,
    Renyi,
    ReverseAIS,
    VRMax,
    label_of,
    parse_bound,
)
from inference.schedule import Annealing

READ: list[tuple[str, Bound, int | None]] = [
    ("elbo", ELBO(), 1),
    ("iwae", IWAE(), None),
    ("iwae:50", IWAE(), 50),
    ("miwae:8:5", MIWAE(8), 40),
    ("miwae:1:1", MIWAE(1), 1),
    ("piwae:8:5", PIWAE(8), 40),
    ("ciwae:0.25", CIWAE(0.25), None),
    ("ciwae:1:7", CIWAE(1), 7),
    ("renyi:0.5", Renyi(0.5), None),
    ("renyi:-2:50", Renyi(-2), 50),
    ("renyi:1e-1", Renyi(0.1), None),
    ("vrmax", VRMax(), None),
    ("vrmax:9", VRMax(), 9),
    ("vr-max:9", VRMax(), 9),
    ("tvo", TVO(), None),
    ("tvo:5", TVO(5), None),
    ("tvo:5:100", TVO(5), 100),
    ("tvo-right", TVO(side="right"), None),
    ("tvo-right:5:100", TVO(5, side="right"), 100),
    ("tvoright:5", TVO(5, side="right"), None),
    ("cubo:2", CUBO(2), None),
    ("cubo:1.5:30", CUBO(1.5), 30),
    ("eubo", EUBO(), None),
    ("eubo:12", EUBO(), 12),
    ("ais", AIS(), 16),
    ("ais:100", AIS(Annealing(num_temperatures=100)), 16),
    ("ais:100:4", AIS(Annealing(num_temperatures=100, num_chains=4)), 4),
    ("bdmc", ReverseAIS(), 16),
    ("bdmc:100:4", ReverseAIS(Annealing(num_temperatures=100, num_chains=4)), 4),
]


@pytest.mark.parametrize(("text", "bound", "K"), READ, ids=lambda value: value if isinstance(value, str) else "")
def test_every_spelling(text: str, bound: Bound, K: int | None) -> None:
    assert parse_bound(text) == (bound, K)
    assert parse_bound(f"  {text.upper()}\n") == (bound, K)


def test_every_spelling_said_to_be_one_is_read() -> None:
    """With and without what stands in brackets; each is among those above."""
    values = {"K": "50", "M": "8", "BETA": "0.25", "ALPHA": "0.5", "PARTS": "5", "N": "2", "T": "100", "CHAINS": "4"}
    names = set()
    for spelling in SPELLINGS:
        optional = spelling.count("[")
        for kept in range(optional + 1):
            head, *rest = spelling.replace("]", "").split("[")
            text = re.sub(r"[A-Z]+", lambda m: values[m.group()], head + "".join(rest[:kept]))
            bound, K = parse_bound(text)
            assert isinstance(bound, Bound)
            assert K is None or K >= 1
        names.add(spelling.split(":")[0].split("[")[0])
    assert names == {re.split(r":", text)[0] for text, _, _ in READ} - {"vr-max", "tvoright"}


@pytest.mark.parametrize(("text", "bound", "K"), READ, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bound_that_is_read_has_its_own_row(text: str, bound: Bound, K: int | None) -> None:
    """What is read apart is called apart, what is read alike alike: a row can be told by its label."""
    label = label_of(bound, K or 40)
    assert label
    for other, K_other in (parse_bound(other) for other, _, _ in READ):
        assert (label_of(other, K_other or 40) == label) == ((other, K_other or 40) == (bound, K or 40))


def test_rows_differ_by_their_k() -> None:
    for text in (
        "iwae",
        "ciwae:0.5",
        "renyi:0.5",
        "vrmax",
        "tvo:5",
        "tvo-right:5",
        "cubo:2",
        "eubo",
        "ais:9",
        "bdmc:9",
    ):
        labels = [label_of(*_told(f"{text}:{K}")) for K in (1, 5, 50)]
        assert len(set(labels)) == 3, labels
    assert all(
        label_of(*_told(a)) != label_of(*_told(b)) for a, b in combinations(["miwae:8:5", "miwae:5:8", "iwae:40"], 2)
    )


def _told(text: str) -> tuple[Bound, int]:
    bound, K = parse_bound(text)
    assert K is not None
    return bound, K


WRONG = [
    *("", ":", ":5", "iwa", "iwae50", "iwae 50", "log_p", "elbos", "none"),  # no such name
    *("elbo:1", "elbo:", "iwae:", "iwae:0", "iwae:-3", "iwae:2.5", "iwae:x", "iwae:5:5", "vrmax:0", "eubo:1:1"),
    *("miwae", "miwae:8", "miwae:0:5", "miwae:8:0", "miwae:-2:-3", "miwae:8:5:1", "miwae:1.5:2", "piwae", "piwae:8"),
    *("ciwae", "ciwae:2", "ciwae:-0.1", "ciwae:nan", "ciwae:0.5:0", "ciwae:0.5:5:5"),
    *("renyi", "renyi:", "renyi:nan", "renyi:inf", "renyi:1e999", "renyi:x", "renyi:0.5:0", "renyi:0.5:5:5"),
    *("cubo", "cubo:0.5", "cubo:-2", "cubo:inf", "cubo:nan", "cubo:2:0"),
    *("tvo:0", "tvo:-1", "tvo:2.5", "tvo:5:0", "tvo:5:5:5", "tvo-left", "tvo-right:0"),
    *("ais:0", "ais:-5", "ais:100:0", "ais:100:4:4", "ais:1e3", "bdmc:0", "bdmc:100:-1", "bdmc:x"),
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_spelling_is_told_them_all_or_what_is_wrong_with_its_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"^`bounds` has ") as refusal:
        parse_bound(text)
    message = str(refusal.value)
    assert repr(text) in message
    assert ", expected " in message
    if f"{text!r}: `" not in message:  # not the bound's own reason
        assert all(spelling in message for spelling in SPELLINGS)
        assert message.endswith("with K >= 1")


def test_a_bounds_own_reason_is_kept() -> None:
    with pytest.raises(ValueError, match=r"^`bounds` has 'cubo:0.5': `order` is 0.5, expected a finite number n"):
        parse_bound("cubo:0.5")
