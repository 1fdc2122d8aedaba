"""``/docs``: a page of an application's OpenAPI document, made here. Networks of government are closed: no page may
load anything from elsewhere, and FastAPI's own pages do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_STYLE = """
body { font-family: "Noto Sans SC", "Microsoft YaHei", sans-serif; max-width: 60rem; margin: 2rem auto }
table { border-collapse: collapse; width: 100% }
td, th { border: 1px solid #999; padding: .3rem .6rem; text-align: left }
pre { background: #f4f4f4; padding: .6rem; overflow-x: auto } code { font-size: 1em } h2 { margin-top: 2.5rem }
"""


def add_api_page(app: FastAPI) -> None:
    """Serve the page at ``/docs``; the document itself is at ``/openapi.json``."""

    @app.get("/docs", include_in_schema=False)
    def _page() -> HTMLResponse:
        return HTMLResponse(render(app.openapi()))


def render(document: Mapping[str, Any]) -> str:
    """Return the page: each operation with its parameters, body forms, examples and answers."""
    title = escape(document["info"]["title"])
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html><html lang="zh"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'<h1>{title}</h1><p>机器可读 (machine-readable): <a href="openapi.json">openapi.json</a></p>'
        f"{operations}</html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    said = escape(operation.get("description") or operation.get("summary", ""))
    content = operation.get("requestBody", {}).get("content", {})
    return (
        f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2><p>{said}</p>"
        + _table(
            "参数 (parameters)",
            [(f"{p['in']} {p['name']}", p.get("description", "")) for p in operation.get("parameters", ())],
        )
        + "".join(_body(media_type, form) for media_type, form in content.items())
        + _table("应答 (answers)", [(code, a.get("description", "")) for code, a in operation["responses"].items()])
    )


def _body(media_type: str, form: Mapping[str, Any]) -> str:
    examples = "".join(
        f"<details><summary>{escape(example.get('summary', name))} <code>{escape(name)}</code></summary>"
        f"<pre>{escape(json.dumps(example['value'], ensure_ascii=False, indent=2))}</pre></details>"
        for name, example in form.get("examples", {}).items()
    )
    schema = escape(json.dumps(form.get("schema", {}), ensure_ascii=False, indent=2))
    return (
        f"<h3>{escape(media_type)}</h3><details><summary>JSON Schema</summary><pre>{schema}</pre></details>{examples}"
    )


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    cells = "".join(f"<tr><td><code>{escape(a)}</code></td><td>{escape(b)}</td></tr>" for a, b in rows)
    return f"<h3>{title}</h3><table>{cells}</table>"
