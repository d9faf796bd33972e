"""The API's reference page, rendered here from its OpenAPI document: no script, no other host."""

from __future__ import annotations

import html
import importlib.metadata
import json
from typing import Any

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #16202a; background: #f7f8fa; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; text-transform: capitalize; }
details { background: #fff; border: 1px solid #d9dfe5; border-radius: 8px; margin: .5rem 0; }
summary { padding: .6rem .9rem; cursor: pointer; } details > div { padding: 0 .9rem .9rem; }
code, pre { font: 13px/1.5 ui-monospace, monospace; } pre { overflow-x: auto; }
.method { display: inline-block; min-width: 3.6rem; font-weight: 700; color: #0b62a4; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .6rem;
  border-bottom: 1px solid #e5eaef; vertical-align: top; }
@media (prefers-color-scheme: dark) { body { color: #dde5ec; background: #0f1318; }
  details { background: #171d24; border-color: #2a333d; } td, th { border-color: #2a333d; }
  .method, a { color: #6cb8f0; } }
"""


def version() -> str:
    """The installed version; `0` in a checkout that is not installed."""
    try:
        return importlib.metadata.version("sightline")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def page(schema: dict[str, Any]) -> str:
    """HTML of every route: parameters, body, answers, and the schemas behind them."""
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            tag = (route.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_route(path, method, route))
    routes = "".join(
        f"<h2>{html.escape(tag)}</h2>{''.join(items)}" for tag, items in groups.items()
    )
    schemas = "".join(
        f"<details id='{html.escape(name)}'><summary><code>{html.escape(name)}</code></summary>"
        f"<div><pre>{html.escape(json.dumps(value, indent=2))}</pre></div></details>"
        for name, value in schema.get("components", {}).get("schemas", {}).items()
    )
    return (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Sightline API</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<style>{STYLE}</style></head><body><h1>Sightline API "
        f"{html.escape(schema['info']['version'])}</h1>"
        "<p>The machine-readable form is <a href='openapi.json'>openapi.json</a>. Errors are "
        "<code>{&quot;error&quot;: ..., &quot;fix&quot;: ...}</code>.</p>"
        f"{routes}<h2>schemas</h2>{schemas}</body></html>"
    )


def _route(path: str, method: str, route: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(p['name'])}</code></td><td>{html.escape(p['in'])}</td>"
        f"<td>{_type(p.get('schema', {}))}</td>"
        f"<td>{html.escape(p.get('description', ''))}</td></tr>"
        for p in route.get("parameters", [])
    )
    table = (
        f"<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>{rows}</table>"
        if rows
        else ""
    )
    body = "".join(
        f"<p>Body: {_type(item.get('schema', {}))} ({html.escape(kind)})</p>"
        for kind, item in route.get("requestBody", {}).get("content", {}).items()
    )
    answers = ", ".join(
        " ".join((html.escape(code), *(_type(c.get("schema", {})) for c in kinds.values())))
        for code, kinds in (
            (code, answer.get("content", {})) for code, answer in route.get("responses", {}).items()
        )
    )
    return (
        f"<details><summary><span class='method'>{html.escape(method.upper())}</span> "
        f"<code>{html.escape(path)}</code></summary><div>"
        f"<p>{html.escape(route.get('description', ''))}</p>{table}{body}"
        f"<p>Answers: {answers}</p></div></details>"
    )


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = html.escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return html.escape(str(schema.get("format") or schema.get("type") or ""))
