"""How a soak is judged."""

import pytest

from tests.bench.soak import Tally, judge


def run(late: float = 0.02, memory: int = 100) -> Tally:
    return Tally(
        answers=[(float(at), 0.02 if at < 600 else late) for at in range(900)],
        memory={
            "host 1": [(float(at), (100 if at < 600 else memory) * 2.0**20) for at in range(900)],
            "host 2": [(float(at), 300 * 2.0**20) for at in range(900)],
            "small 3": [(float(at), 1.0 + at) for at in range(900)],
            "short 4": [(float(at), 300 * 2.0**20) for at in range(100)],
        },
    )


def test_a_steady_run_is_fine() -> None:
    report = judge(run(), minutes=15, users=8)
    assert report.ok
    assert (report.p95_growth, report.answers) == (1.0, 900)
    assert report.memory_growth == {"host 1": 1.0, "host 2": 1.0}
    assert report.memory_mb == {"host 1": 100.0, "host 2": 300.0}
    assert report.p95_ms == 20.0


@pytest.mark.parametrize("bad", [run(late=0.04), run(memory=200)])
def test_growth_is_not(bad: Tally) -> None:
    assert not judge(bad, minutes=15, users=8).ok


def test_a_wrong_or_refused_answer_is_not() -> None:
    wrong, refused = run(), run()
    wrong.wrong.append("a hit of nowhere")
    refused.refused = 1
    assert not judge(wrong, minutes=15, users=8).ok
    assert not judge(refused, minutes=15, users=8).ok


def test_a_run_without_thirds_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="too short"):
        judge(Tally(answers=[(1.0, 0.1)]), minutes=15, users=8)
