"""A chapter while it runs: scale, seeds, device, claims, stored results."""

import hashlib
import json
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repgeom.repro import claims as rules
from repgeom.repro import records
from repgeom.repro.display import Markup, approx, cells_of, emit, html_table, number, plain_table

if TYPE_CHECKING:
    import torch

SCALES = ("smoke", "ci", "full")
SIGNS = {
    rules.REPRODUCED: "✓",
    rules.NOT_REPRODUCED: "✗",
    rules.INCONCLUSIVE: "?",
    rules.SKIPPED: "–",
    rules.NOT_JUDGED: "–",
}
NOISE = 1e-9  # exact numbers below this are rounding, which differs between processors


def open_chapter(slug: str, *, scale: str = "ci", seed: int = 0) -> "Chapter":
    """Open a chapter: seed everything, choose the device, print one line of versions.

    ``scale`` is ``"smoke"`` (a few steps, nothing is judged), ``"ci"`` (CPU, minutes) or ``"full"`` (GPU where there is
    one). ``seed`` is the base seed; different base seeds give disjoint seeds and generators.
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}: must be one of {', '.join(SCALES)}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed!r}: must be an integer >= 0")
    return Chapter(slug, scale, seed)


class Chapter:
    """What a page holds between ``open_chapter`` and ``close``."""

    def __init__(self, slug: str, scale: str, seed: int) -> None:
        import numpy
        import torch

        self.slug, self.scale, self.seed = slug, scale, seed
        self.device = torch.device("cuda" if scale == "full" and torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":  # batched eigh gets many times slower with two threads on a loaded machine
            torch.set_num_threads(1)
        self.claims: dict[str, rules.Claim] = {}
        self.results: dict[str, Any] = {}
        self._start = time.perf_counter()
        self._gpu_start: dict[str, float] = {}
        base = self._number(0) % 2**32
        random.seed(base)
        numpy.random.seed(base)  # noqa: NPY002 - guards code that draws without a generator
        torch.manual_seed(base)
        said = " · ".join(f"{name} {version}" for name, version in records.versions().items())
        print(f"{said} · {self._device_name()} · scale {scale} · seed {seed}")

    def _number(self, k: int) -> int:
        digest = hashlib.sha256(f"{self.slug}:{self.seed}:{k}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def _device_name(self) -> str:
        import torch

        return torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"

    def seeds(self, n: int) -> list[int]:
        """``n`` seeds that no other base seed gives: ``[n * seed, ..., n * seed + n - 1]``."""
        if n < 1:
            raise ValueError(f"n={n}: must be at least 1")
        return [n * self.seed + k for k in range(n)]

    def generator(self, k: int = 0, device: "torch.device | str" = "cpu") -> "torch.Generator":
        """The ``k``-th generator of this chapter at this base seed."""
        import torch

        return torch.Generator(device=device).manual_seed(self._number(k))

    def claim(
        self,
        id: str,
        *,
        says: str,
        source: str,
        paper: str | None = None,
        value: Any,
        expect: rules.Expectation,
        unit: str = "",
        drift: float | None = None,
        digits: int = 3,
        missing: str | None = None,
    ) -> None:
        """State a claim; its verdict follows by rule.

        ``value``: one number or bool (exact), one number per seed (empirical, interval of the mean), or None together
        with ``missing="name of the data set"`` (skipped). ``drift``: the absolute band within which a re-run may move,
        instead of the default (a millionth for exact numbers, which are to be the same at every base seed; 3 standard
        errors for empirical ones). ``paper``: the paper's own number, quoted with its table or figure.
        """
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id):
            raise ValueError(f"claim id {id!r}: use lower-case words joined by hyphens, such as '6d-beats-quaternion'")
        if (value is None) != (missing is not None):
            raise ValueError(f"claim {id!r}: value=None and missing='data set' go together; give both or neither")
        if id in self.claims and self.claims[id].says != says:
            raise ValueError(f"claim id {id!r} is used twice; give each claim its own id")
        kind, value, samples = rules.numbers_of(id, value)
        self.claims[id] = rules.Claim(
            id=id,
            says=says,
            source=source,
            paper=paper,
            expect=expect,
            kind=kind,
            samples=samples,
            value=value,
            unit=unit,
            drift=drift,
            digits=digits,
            missing=missing,
            judged=self.scale != "smoke",
        )

    def table(
        self,
        rows: Sequence[Mapping[str, Any] | Sequence[Any]],
        columns: Sequence[str] | None = None,
        caption: str | None = None,
        measured: bool | Sequence[str] = True,
    ) -> None:
        """Show a table. Floats of ``measured`` columns (True: all; or a list of names) are printed after ``≈``."""
        names, cells = cells_of(rows, columns, measured)
        emit(html_table(names, cells, caption), plain_table(names, cells, caption))

    def gpu(self, key: str) -> bool:
        """Guard of a gpu cell: True at full scale with CUDA; otherwise prints one line and is False."""
        return self._fenced(key, self.device.type == "cuda", 'it needs a CUDA GPU and scale = "full"')

    def full(self, key: str) -> bool:
        """Guard of a long cell that needs no GPU: True at full scale; otherwise prints one line and is False."""
        return self._fenced(key, True, 'it needs scale = "full"')

    def _fenced(self, key: str, possible: bool, why: str) -> bool:
        only = os.environ.get("REPGEOM_ONLY", key)
        if self.scale == "full" and possible and key == only:
            self._gpu_start[key] = time.perf_counter()
            return True
        why = why if key == only else f"only '{only}' was asked for"
        print(f"Not run here: '{key}', because {why}. The stored result is shown instead.")
        return False

    def store(self, key: str, obj: Any) -> None:
        """Keep a JSON-able result of a full-scale run, with its provenance, for the full record."""
        if self.scale != "full":
            raise ValueError(
                f"store({key!r}) at scale {self.scale!r}: only at full scale; guard the cell with gpu() or full()"
            )
        try:
            result = json.loads(json.dumps(obj, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"store({key!r}): not JSON ({error}); give numbers, strings, lists and dicts") from error
        if not isinstance(result, dict):
            result = {"value": result}
        self.results[key] = {**result, "provenance": self._provenance(self._gpu_start.get(key, self._start))}

    def stored(self, key: str, *, gpu: bool = True) -> dict[str, Any] | None:
        """Show the stored full-scale result ``key`` with its provenance and return it, without provenance.

        Where there is none, says so and names the command that makes it (``gpu``: whether it needs one); returns None.
        """
        record = records.load(self.slug, "full")
        result = self.results.get(key) or (record or {}).get("results", {}).get(key)
        if result is None:
            where, flag = ("On a machine with a CUDA GPU: ", "--gpu") if gpu else ("The command: ", "--full")
            line = f"Not yet run at full scale. {where}repgeom run {flag} {self.slug}"
            emit(f'<p class="repgeom-stored">{line}</p>', line)
            return None
        content = {k: v for k, v in result.items() if k != "provenance"}
        made = result["provenance"]
        line = (
            f"Full scale: {made['device']}, torch {made['versions']['torch']}, {made['date'][:10]}, "
            f"commit {made['commit'][:10]}, {made['wall_s']:.0f} s."
        )
        body, plain = _stored_view(content)
        emit(f'<div class="repgeom-stored"><p>{line}</p>{body}</div>', f"{line}\n{plain}")
        return content

    def _provenance(self, start: float) -> dict[str, Any]:
        return {
            "wall_s": round(time.perf_counter() - start, 1),
            "device": self._device_name(),
            "versions": records.versions(),
            "commit": records.commit(),
            "date": records.now(),
        }

    def record(self) -> dict[str, Any]:
        """Everything this run has to say, as it is written to disk."""
        run = self._provenance(self._start)
        run = {"wall_s": run.pop("wall_s"), "peak_mib": records.peak_mib(), **run}
        return {
            "format": records.FORMAT,
            "slug": self.slug,
            "scale": self.scale,
            "seed": self.seed,
            "inputs": None,  # the command that runs the page fills in the digest of what it ran
            "claims": [claim.as_record() for claim in self.claims.values()],
            "results": self.results,
            "run": {**run, "data": records.data_checksums()},
        }

    def close(self) -> None:
        """Show the claims with their verdicts; write the record into ``$REPGEOM_RECORD_DIR`` where that is set."""
        if not self.claims:
            raise ValueError(f"chapter {self.slug!r} closes without a claim; state at least one with claim()")
        _show_claims(list(self.claims.values()))
        folder = os.environ.get("REPGEOM_RECORD_DIR")
        if folder:
            records.save(Path(folder) / f"{self.slug}.{self.scale}.json", self.record())


def _stored_view(content: dict[str, Any]) -> tuple[str, str]:
    """A stored result as HTML and plain text: single numbers in one table, lists of alike records in one table each.

    What is neither (curves, say) is for the page to draw from the returned dict.
    """
    tables: list[tuple[list[str], list[list[str]], str | None]] = []
    singles = [[k, v] for k, v in content.items() if not isinstance(v, list | dict)]
    if singles:
        tables.append((*cells_of(singles, ["quantity", "value"], measured=False), None))
    for key, block in content.items():
        rows = block if isinstance(block, list) else []
        if rows and all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
            tables.append((*cells_of(rows, None, measured=False), key))
    rich = "".join(html_table(names, cells, caption) for names, cells, caption in tables)
    return rich, "\n".join(plain_table(names, cells, caption) for names, cells, caption in tables)


def value_text(claim: rules.Claim) -> str:
    """Our number as the table shows it: after ``≈`` where it moves between machines, with its interval."""
    if claim.value is None:
        return f"no data ({claim.missing})"
    if isinstance(claim.value, bool):
        return number(claim.value)
    unit = f" {claim.unit}" if claim.unit else ""
    if claim.kind == "empirical":
        bounds = claim.interval
        inside = f" [{number(bounds[0], claim.digits)}, {number(bounds[1], claim.digits)}]" if bounds else ""
        return approx(claim.value, claim.digits) + inside + unit
    moves = isinstance(claim.value, float) and (claim.drift is not None or abs(claim.value) < NOISE)
    return (approx if moves else number)(claim.value, claim.digits) + unit


def _show_claims(claims: list[rules.Claim]) -> None:
    columns = ["claim", "statement", "paper", "expected", "ours", "verdict"]
    plain, rich = [], []
    for c in claims:
        verdict = f"{SIGNS[c.verdict]} {c.verdict}"
        row = [c.id, f"{c.says} ({c.source})", c.paper or "–", c.expect.text, value_text(c)]
        css = "verdict-" + c.verdict.replace(" ", "-")
        rich.append([*row, Markup(f'<span class="verdict {css}">{verdict}</span>')])
        plain.append([*row, verdict])
    ids = [f"claim-{c.id}" for c in claims]
    emit(html_table(columns, rich, "Claims", "repgeom-claims", ids), _claims_plain(columns, plain))


def _claims_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """One claim a paragraph: statements are too long for the columns of a terminal."""
    paragraphs = []
    for claim_id, says, paper, expected, ours, verdict in rows:
        paragraphs.append(f"{verdict}: {claim_id}\n  {says}\n  paper: {paper}\n  expected: {expected}\n  ours: {ours}")
    return "\n".join(paragraphs)
