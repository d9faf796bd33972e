"""Toasts: what a decision did, with a way back."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from dash import html

from dashboard.components.widgets import aria, data, icon


def toast(text: str, *, tone: str = "plain", undo: bool = False) -> html.Div:
    """Build a toast (tones: plain, ok, danger); it replaces the one before and fades by itself."""
    token = uuid4().hex
    parts: list[Any] = [html.Span(text, className="toast__text")]
    if undo:
        parts.append(html.Button("Undo", className="toast__undo", type="button", **data(undo="")))
    parts.append(
        html.Button(
            icon("close"),
            className="icon-button toast__close",
            type="button",
            **data(dismiss="toast"),
            **aria(label="Dismiss"),
        )
    )
    return html.Div(parts, className=f"toast toast--{tone}", id=f"toast-{token}", key=token)
