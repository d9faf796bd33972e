from __future__ import annotations

import inspect
from typing import Any

import pytest

from dashboard import ids


def constants() -> dict[str, str]:
    return {k: v for k, v in vars(ids).items() if k.isupper() and isinstance(v, str)}


def functions() -> list[Any]:
    return [
        f for _, f in inspect.getmembers(ids, inspect.isfunction) if f.__module__ == ids.__name__
    ]


def test_every_constant_is_another_id() -> None:
    values = list(constants().values())
    assert len(values) > 30
    assert len(set(values)) == len(values)


def test_ids_are_safe_in_dash() -> None:
    # Dash separates ids by dots and braces in its own keys.
    for name, value in constants().items():
        if name.startswith("PATH_"):
            assert value.startswith("/")
        else:
            assert value.replace("-", "").isalnum(), name


@pytest.mark.parametrize("function", functions(), ids=lambda f: f.__name__)
def test_id_functions_name_type_and_arguments(function: Any) -> None:
    names = list(inspect.signature(function).parameters)
    built = function(*(f"<{name}>" for name in names))
    assert isinstance(built["type"], str)
    assert sorted(v for k, v in built.items() if k != "type") == sorted(f"<{n}>" for n in names)
    assert function(*("other" for _ in names)) != built


def test_id_functions_do_not_share_a_type_with_the_same_keys() -> None:
    shapes = [
        (built["type"], tuple(sorted(built)))
        for built in (f(*("x" for _ in inspect.signature(f).parameters)) for f in functions())
    ]
    assert len(set(shapes)) == len(shapes)
