"""Collections become rare; what is made later and names itself is still collected."""

from __future__ import annotations

import subprocess
import sys

from cql.settings import ROOT

# A process of its own: the tests' own collector stays as it is.
CODE = """
import gc, weakref
from cql import garbage

class Knot:
    pass

before = Knot()
garbage.seldom()
assert gc.isenabled()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold()[0] >= 10_000
assert before not in gc.get_objects()

made = []
for _ in range(3):
    knot = Knot()
    knot.own = knot
    made.append(weakref.ref(knot))
del knot
kept = []
while any(each() is not None for each in made) and len(kept) < 1_000_000:
    kept.append([])
assert all(each() is None for each in made), len(kept)
assert len(kept) > 5_000
print("collected")
"""


def test_less_is_collected_and_nothing_is_lost() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "collected", done.stderr
