"""What a person is shown of an evaluation, whatever the kind of model."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["print_evaluation"]


def print_evaluation(found: dict[str, Any]) -> None:
    """A line for each thing that was found, the samples' table last."""
    data = found["data"]
    lines = {
        "run": f"{found['run']}, step {found['step']}",
        "data": f"{data['name']} {data['split']}, {data['protocol']}, n = {data['n']}",
        **(_of_pair(found) if "log_likelihood" in found else _of_outcome(found)),
        "seconds": f"{found['seconds']:.1f}",
    }
    for label, text in lines.items():
        print(f"{label:14}{text}")
    for row in found.get("samples") or []:
        print(f"{'draws':14}{row['measure']} {row['value']:.4g}, s.e. {row['se']:.2g} ({row['compared with']})")
    for note in found.get("notes") or []:
        print(f"{'note':14}{note}")
    for finding in found.get("findings") or []:
        print(f"{'finding':14}{finding}")


def _of_outcome(found: dict[str, Any]) -> dict[str, str]:
    """What is known of log p(x) of a model without a guide; nothing of one that has no density."""
    lines = {}
    for name, where in (("likelihood", "log p(x)"), ("train", "on train")):
        for row in found[name] or []:
            lines[f"{where}{'' if row['direction'] == 'exact' else _SIGN[row['direction']]}"] = _likelihood(row, found)
    return lines


_SIGN = {"lower": " >=", "upper": " <="}


def _likelihood(row: dict[str, Any], found: dict[str, Any]) -> str:
    draws = "" if row["direction"] == "exact" or math.isnan(row["mc_se"]) else f", {row['mc_se']:.3f} over draws"
    text = f"{row['value']:.3f} nats per datum, s.e. {row['se']:.3f} over data{draws}; {row['bound']}"
    if found["kind"] != "transition":
        return text
    bits, x_dim = row["value"] / math.log(2), found["data"]["x_dim"]
    gain = (row["value"] - found["null"]) / math.log(2)
    return f"{text}, {-bits / x_dim:.4f} bits an entry, {gain:.2f} bits above knowing nothing"


def _of_pair(found: dict[str, Any]) -> dict[str, str]:
    value, khat, ess = (found[key] for key in ("log_likelihood", "khat", "ess"))
    units = (f"{site}: {count['active']} of {count['of']}" for site, count in found["active_units"].items())
    return {
        "log p(x)": f"{value['value']:.3f} nats per datum, s.e. {value['se']:.3f} over data, "
        f"{value['mc_se']:.3f} over draws; K = {found['num_particles']}",
        "k-hat": f"median {khat['median']:.2f}, too high for {khat['share_too_high']:.0%} of the data",
        "ESS": f"median {ess['median']:.0f}, least {ess['least']:.1f}",
        **({"active units": ", ".join(units)} if found["active_units"] else {}),
        **({"components": "; ".join(found["components"].values())} if found["components"] else {}),
        **({"clusters": _cluster_line(found["clusters"])} if found["clusters"] else {}),
    }


def _cluster_line(scores: dict[str, float]) -> str:
    return (
        f"accuracy {scores['accuracy']:.3f} (named one to one; by majority {scores['majority_accuracy']:.3f}), "
        f"NMI {scores['nmi']:.3f}, ARI {scores['ari']:.3f}, H(y | x) {scores['conditional_entropy']:.3f} nats"
    )
