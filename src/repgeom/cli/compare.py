"""Does a re-run say what the record says? The rule, without any running."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from repgeom.cli import Failure
from repgeom.cli.pages import Page, load_record
from repgeom.repro import claims as rules

RELATIVE = 1e-6  # exact numbers
FLOOR = 1e-12
SIGMAS = 3.0
OK, SETTLED, SKIPPED, UNCOMPARED = "ok", "settled", "skipped", "nothing to compare"
MISSING, NEW = "missing", "new"
CONTRADICTS, MOVED_GOAL = "record contradicts itself", "expectation changed"
OTHER_TEXT, NO_NUMBER = "text differs from the page", "record has no number"
VERDICT, DRIFT = "verdict changed", "drifted"
PASSING = (OK, SETTLED, SKIPPED, UNCOMPARED)
TEXTS = ("expect", "paper", "says", "source", "unit", "drift")


@dataclass
class Outcome:
    """One claim: what the record says, what the re-run says, and whether that agrees."""

    id: str
    says: str
    status: str
    detail: str
    recorded_value: float | bool | None
    recorded_verdict: str | None
    value: float | bool | None
    interval: list[float] | None
    samples: int
    verdict: str | None
    unit: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return asdict(self)


def compare(record: dict[str, Any] | None, runs: Sequence[dict[str, Any]], against: bool = True) -> list[Outcome]:
    """Compare runs (one per base seed) with the committed record, claim by claim.

    Samples of all base seeds are pooled and the verdict is derived from the pool. ``against=False``: there is no record
    and none is required.
    """
    known = {claim["id"]: claim for claim in (record or {}).get("claims", [])}
    seen: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for claim in run["claims"]:
            seen.setdefault(claim["id"], []).append(claim)
    outcomes = [_missing(claim) for name, claim in known.items() if len(seen.get(name, [])) < len(runs)]
    gone = {outcome.id for outcome in outcomes}
    for name, found in seen.items():
        if name not in gone:
            outcomes.append(_one(known.get(name), found, against))
    return outcomes


def _missing(claim: dict[str, Any]) -> Outcome:
    detail = "the record has this claim, the re-run does not"
    value, verdict = claim.get("value"), claim.get("verdict")
    return Outcome(claim["id"], claim.get("says", ""), MISSING, detail, value, verdict, None, None, 0, None)


def _one(old: dict[str, Any] | None, found: list[dict[str, Any]], against: bool) -> Outcome:
    new = pool(found)
    status, detail = (NEW, "the record does not have this claim") if old is None else judge(old, new)
    if old is None and not against:
        status, detail = UNCOMPARED, "no record at this scale"
    return Outcome(
        id=new["id"],
        says=new["says"],
        status=status,
        detail=detail,
        recorded_value=old["value"] if old else None,
        recorded_verdict=old["verdict"] if old else None,
        value=new["value"],
        interval=new["interval"],
        samples=len(new["samples"]),
        verdict=new["verdict"],
        unit=new["unit"],
    )


def pool(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The same claim from several base seeds as one: samples joined, interval and verdict derived anew."""
    new = dict(found[0])
    if any(claim["value"] is None for claim in found):
        return {**new, "value": None, "samples": [], "interval": None, "verdict": rules.SKIPPED}
    if new["kind"] == "exact":
        verdicts = sorted({rules.verdict_of(claim) for claim in found})
        farthest = max(found, key=lambda claim: abs(float(claim["value"]) - float(new["value"])))
        odd = next((claim for claim in found if rules.verdict_of(claim) != verdicts[0]), farthest)
        return {**new, "value": odd["value"], "values": [c["value"] for c in found], "verdict": " / ".join(verdicts)}
    new["samples"] = [sample for claim in found for sample in claim["samples"]]
    bounds = rules.interval(new["samples"])
    new.update(value=float(np.mean(new["samples"])), interval=list(bounds) if bounds else None)
    return {**new, "verdict": rules.verdict_of(new)}


def judge(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, str]:
    """Status and reason for one claim; the record is distrusted first.

    What surrounds the numbers must be what the page says. A verdict that changes is a failure, but for one case: the
    record is inconclusive, and more samples than it has settle the question without leaving the band. A claim may be
    skipped here, where its data are missing; a record without a number says nothing and fails.
    """
    wrong = contradiction(old)
    if wrong:
        return CONTRADICTS, wrong
    unknown = old["value"] is None or new["value"] is None  # then the kind of the claim is unknown too
    for key in ("low", "high") if unknown else ("kind", "low", "high"):
        if old[key] != new[key]:
            return MOVED_GOAL, f"{key}: {old[key]} in the record, {new[key]} in the page"
    for key in TEXTS:
        if old[key] != new[key]:
            return OTHER_TEXT, f"{key}: {old[key]!r} in the record, {new[key]!r} in the page"
    if new["value"] is None:
        return SKIPPED, "the data set was not available here"
    if old["value"] is None:
        return NO_NUMBER, "it was skipped for the record; run the page where its data are"
    changed = f"{old['verdict']} in the record, {new['verdict']} in the re-run"
    settled = old["verdict"] == rules.INCONCLUSIVE and len(new["samples"]) > len(old["samples"])
    if old["verdict"] != new["verdict"] and not settled:
        return VERDICT, changed
    values = new.get("values", [new["value"]])
    band, rule = drift_band(old, new)
    worst = max(abs(float(value) - float(old["value"])) for value in values)
    if worst > band:
        return DRIFT, f"moved by {worst:.3g}, allowed {band:.3g} ({rule})"
    if old["verdict"] != new["verdict"]:
        return SETTLED, f"{changed}, with {len(new['samples'])} samples instead of {len(old['samples'])}"
    return OK, ""


def contradiction(claim: dict[str, Any]) -> str:
    """Why a recorded claim cannot be what a run wrote, or an empty string."""
    if claim["value"] is None:
        if claim["verdict"] != rules.SKIPPED:
            return f"no value, yet {claim['verdict']}"
        return "no value, yet samples or an interval" if claim["samples"] or claim["interval"] is not None else ""
    if claim["kind"] == "empirical":
        mean = float(np.mean(claim["samples"])) if claim["samples"] else math.nan
        scale = max(map(abs, claim["samples"]), default=0.0)
        if not _close(mean, float(claim["value"]), scale):
            return f"the samples have mean {mean:.6g}, the value says {claim['value']:.6g}"
        bounds = rules.interval(claim["samples"])
        said = claim["interval"]
        if (bounds is None) != (said is None) or (
            bounds and not all(_close(a, b, scale) for a, b in zip(bounds, said, strict=True))
        ):
            return f"the samples give the interval {bounds}, the record says {said}"
    derived = rules.verdict_of(claim)
    return "" if derived == claim["verdict"] else f"the numbers give '{derived}', the record says '{claim['verdict']}'"


def load_consistent(page: Page, scale: str) -> dict[str, Any] | None:
    """The committed record for those who publish it: Failure where a claim in it contradicts itself."""
    record = load_record(page, scale)
    for claim in (record or {}).get("claims", []):
        wrong = contradiction(claim)
        if wrong:
            name = page.record(scale).name
            raise Failure(f"record {name}, claim '{claim['id']}' contradicts itself: {wrong}; run the page again")
    return record


def _close(a: float, b: float, scale: float) -> bool:
    """Equal but for rounding in a sum of numbers of size ``scale``; tiny numbers get no allowance of their own."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12 * scale)


def drift_band(old: dict[str, Any], new: dict[str, Any]) -> tuple[float, str]:
    """How far a re-run may lie from the record.

    ``drift`` of the claim where given; for exact numbers ``1e-6 |value|``; otherwise 3 standard errors of the
    difference of the two means, the factor 3 widened by Student's t at Welch's degrees of freedom.
    """
    exact = max(FLOOR, RELATIVE * abs(float(old["value"])))
    if new["drift"] is not None:
        return float(new["drift"]), "drift= of the claim"
    if old["kind"] == "exact":
        return exact, "relative 1e-6"
    sizes = [len(old["samples"]), len(new["samples"])]
    if min(sizes) < 2:
        return exact, "a single sample counts as an exact number"
    shares = [float(np.var(c["samples"], ddof=1)) / n for c, n in zip((old, new), sizes, strict=True)]
    total = sum(shares)
    if total == 0.0:
        return exact, "no spread: relative 1e-6"
    df = total**2 / sum(share**2 / (n - 1) for share, n in zip(shares, sizes, strict=True))
    factor = rules.student_t_quantile(0.5 + 0.5 * math.erf(SIGMAS / math.sqrt(2)), df)
    return max(exact, factor * math.sqrt(total)), f"{factor:.1f} standard errors"
