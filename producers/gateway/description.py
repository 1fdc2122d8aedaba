"""What OpenAPI says of ``POST /v1/events``: the body's forms, the headers, every answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from producers.gateway.parsing import BATCH, FRAMED_AVRO, STRUCTURED
from schemas.contracts import Contracts

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
"""A problem document (RFC 9457); ``pointer`` is a JSON pointer into the body."""

_TAKEN = {
    "type": "object",
    "required": ["accepted", "events"],
    "properties": {
        "accepted": {"type": "integer"},
        "refused": {"type": "integer"},
        "dry_run": {"type": "boolean"},
        "note": {"type": "string"},
        "events": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "id", "status"],
                "properties": {"index": {"type": "integer"}, "status": {"type": "integer"}},
            },
        },
    },
}
_BINARY = ("specversion", "id", "type", "source", "subject", "time", "division", "follows")
_REFUSALS = {
    400: "请求不是 HTTP 所允许的 (not valid HTTP)",
    401: "没有有效的密钥或令牌 (no valid key or token)",
    403: "无权发布该类型、来源或区划，errors 指明字段 (no right to this type, source or division)",
    409: "同一 source、id 与 subject 已有另一内容 (accepted before with other content)",
    413: "请求体或批量过大 (too large)",
    415: "不支持的内容类型或编码 (media type or encoding not understood)",
    422: "内容不符合要求，errors 列出全部字段 (invalid; every bad field is named)",
    429: "超过部门的速率，见 Retry-After (too fast)",
    503: "Kafka 未确认或网关正忙，见 Retry-After；events 列出已接收的 (not acknowledged, or busy)",
}


def publish_description(contracts: Contracts) -> dict[str, Any]:
    """Return the operation's part of the OpenAPI document."""
    event = _event(contracts)
    samples = {
        contract.type: {
            "summary": contract.catalogue.title_zh,
            "value": {
                "specversion": "1.0",
                "id": f"sample-{contract.type}",
                "type": contract.type,
                "data": dict(contract.sample),
            },
        }
        for contract in contracts.types.values()
    }
    batch = [sample["value"] for sample in list(samples.values())[:2]]
    framed = {"type": "string", "format": "binary", "description": "0x00、四字节模式 id、Avro (Confluent wire format)"}
    content = {
        STRUCTURED: {"schema": event, "examples": samples},
        BATCH: {"schema": {"type": "array", "items": event, "minItems": 1}, "example": batch},
        "application/json": {"schema": {"type": "object", "description": "二进制模式：只有数据，属性在 ce- 头里"}},
        **{kind: {"schema": framed} for kind in sorted(FRAMED_AVRO)},
    }
    return {
        "security": [{"bearer": []}],
        "parameters": [
            _header("Prefer", "handling=lenient：逐个接收，其余不受影响 (take what can be taken)"),
            _header("Content-Encoding", "gzip"),
            *(_header(f"ce-{name}", f"二进制模式的属性 {name} (binary mode)") for name in _BINARY),
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "202": _answer("全部已在 Kafka 上 (all on the log)", "application/json", _TAKEN),
            "200": _answer("dry_run 的结果 (what a dry run found)", "application/json", _TAKEN),
            "207": _answer("接收了一部分，events 逐个说明 (some were taken)", "application/json", _TAKEN),
            **{str(code): _answer(text, "application/problem+json", PROBLEM) for code, text in _REFUSALS.items()},
        },
    }


def dead_letters_description() -> dict[str, Any]:
    """Return the OpenAPI part of a department's list of dead letters."""
    refusals = {code: _REFUSALS[code] for code in (401, 422, 429, 503)}
    answers = {str(code): _answer(text, "application/problem+json", PROBLEM) for code, text in refusals.items()}
    return {"security": [{"bearer": []}], "responses": answers}


def catalogue_description() -> dict[str, Any]:
    """Return the OpenAPI of one type's entry."""
    return {"responses": {"404": _answer("没有这个事件类型 (unknown event type)", "application/problem+json", PROBLEM)}}


def _event(contracts: Contracts) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": 1024}
    return {
        "type": "object",
        "required": ["id", "type"],
        "oneOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": text,
            "type": {"enum": sorted(contracts.types)},
            "source": text,
            "subject": text,
            "time": {"type": "string", "format": "date-time"},
            "division": {"type": "string", "pattern": "^[0-9]{6}$"},
            "follows": text,
            "data": {"type": "object", "description": "字段见 /v1/catalogue/{type} (by the type's schema)"},
            "data_base64": {"type": "string", "contentEncoding": "base64", "pattern": "^([A-Za-z0-9+/]{4})*$"},
            "datacontenttype": {
                "enum": ["application/json", *sorted(FRAMED_AVRO)],
                "description": "data_base64 里是什么，默认 application/json (what data_base64 holds)",
            },
        },
    }


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}


def _answer(text: str, media_type: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {media_type: {"schema": schema}}}
