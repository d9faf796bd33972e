from __future__ import annotations

from dashboard import undo


def test_newest_first_and_empty_at_the_end() -> None:
    stack = undo.push(None, "image:a", 1, "first")
    stack = undo.push(stack, "image:b", 4, "second")
    assert undo.top(stack) == ("image:b", 4, "second")
    stack = undo.pop(stack, 5)
    assert undo.top(stack) == ("image:a", 1, "first")
    stack = undo.pop(stack, 2)
    assert undo.top(stack) is None
    assert undo.pop(stack, 3) == {"acts": [], "versions": {}}


def test_a_second_undo_of_one_subject_expects_the_version_that_the_first_made() -> None:
    stack = undo.push(None, "cluster:a", 1, "first")
    stack = undo.push(stack, "cluster:a", 2, "second")
    stack = undo.pop(stack, 3)
    assert undo.top(stack) == ("cluster:a", 3, "first")


def test_a_failed_undo_forgets_the_subject_only() -> None:
    stack = undo.push(None, "cluster:a", 1, "first")
    stack = undo.push(stack, "image:b", 1, "second")
    stack = undo.push(stack, "cluster:a", 2, "third")
    stack = undo.pop(stack, None)
    assert undo.top(stack) == ("image:b", 1, "second")
    assert stack["versions"] == {"image:b": 1}


def test_depth_is_bounded() -> None:
    stack = None
    for number in range(undo.DEPTH + 20):
        stack = undo.push(stack, f"image:{number}", 1, "x")
    assert stack is not None
    assert len(stack["acts"]) == len(stack["versions"]) == undo.DEPTH
