"""The scripts that move the figures: what can be seen without running them."""

import re
from collections import Counter
from pathlib import Path

BOOK = Path(__file__).resolve().parents[2] / "book"
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in sorted((BOOK / "_static").glob("*.js"))}
REGISTRATION = re.compile(r'FIGURES(?:\[| = \{ )"([a-z0-9-]+)"(?:\] = |: )')
REGISTERED = [name for text in SCRIPTS.values() for name in REGISTRATION.findall(text)]


def test_every_figure_of_a_page_is_registered_once():
    pages = {path.name: path.read_text(encoding="utf-8") for path in BOOK.glob("*.md")}
    used = {name for text in pages.values() for name in re.findall(r'viz\.interactive\(\s*"([^"]+)"', text)}
    assert used and used <= set(REGISTERED)
    assert {"rotation-loop", "spd-cone"} <= set(REGISTERED)
    assert len(REGISTERED) == len(set(REGISTERED))


def test_no_two_scripts_declare_the_same_name():
    """They share one scope: a name declared twice stops the second script."""
    declared = Counter(
        name for text in SCRIPTS.values() for name in re.findall(r"^(?:const|let|class|function) (\w+)", text, re.M)
    )
    assert "spdCone" in declared
    assert [name for name, times in declared.items() if times > 1] == []


def test_scripts_load_nothing():
    for name, text in SCRIPTS.items():
        addresses = set(re.findall(r"https?://[^\s\"']+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses and not re.search(r"\b(fetch|import|XMLHttpRequest)\b *\(", text), name
