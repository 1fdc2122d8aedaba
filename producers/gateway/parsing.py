"""Reads the three forms of CloudEvents over HTTP: structured, batch and binary, with JSON or Avro data."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

from services.runtime.errors import FieldProblem, HongyanError, InvalidError, TooLargeError

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
FRAMED_AVRO = {"application/vnd.confluent.avro", "application/avro", "avro/binary"}
_ENVELOPE_ONLY = {"data", "data_base64", "datacontenttype"}

DecodeAvro = Callable[[str, bytes], dict[str, Any]]


class UnsupportedMediaTypeError(HongyanError):
    """The content type is none of CloudEvents' JSON forms, and no ce-id header says binary mode."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """One event as it was sent; ``pointer`` is where it stands in the body (empty, or ``/3`` in a batch).

    ``problems`` says why an event of a batch could not be read; the others of the batch are none the worse for it.
    """

    attributes: Mapping[str, Any]
    data: object
    pointer: str = ""
    problems: Sequence[FieldProblem] = ()


def parse(
    content_type: str, headers: Mapping[str, str], body: bytes, decode: DecodeAvro, max_batch: int
) -> list[Parsed]:
    """Return the events of a request; raises InvalidError, UnsupportedMediaTypeError or TooLargeError."""
    kind = _media_type(content_type)
    if kind == STRUCTURED:
        return [_structured(_json(body), "", decode)]
    if kind == BATCH:
        return _batch(_json(body), decode, max_batch)
    if "ce-id" in headers or "ce-type" in headers:
        return [_binary(kind, headers, body, decode)]
    raise UnsupportedMediaTypeError(
        f"Content-Type {content_type or '(none)'}: 应为 {STRUCTURED} 或 {BATCH}，或以 ce- 头给出属性 (binary mode)"
    )


def _media_type(text: str) -> str:
    """Return a media type without its parameters, in lower case."""
    return text.partition(";")[0].strip().lower()


def _json(body: bytes, pointer: str = "") -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidError([FieldProblem(pointer, f"不是 JSON (no JSON): {error}")]) from error


def _batch(found: object, decode: DecodeAvro, max_batch: int) -> list[Parsed]:
    if not isinstance(found, list) or not found:
        raise InvalidError([FieldProblem("", "应为非空的事件数组 (an array of events, not empty)")])
    if len(found) > max_batch:
        detail = f"一批最多 {max_batch} 个事件，收到 {len(found)} 个 (too many events in one batch)"
        raise TooLargeError([FieldProblem(f"/{max_batch}", detail)])
    return [_one_of_batch(event, f"/{number}", decode) for number, event in enumerate(found)]


def _one_of_batch(event: object, pointer: str, decode: DecodeAvro) -> Parsed:
    try:
        return _structured(event, pointer, decode)
    except InvalidError as error:
        named = event.get("id") if isinstance(event, dict) else None
        return Parsed({"id": named}, None, pointer, error.problems)


def _structured(event: object, pointer: str, decode: DecodeAvro) -> Parsed:
    if not isinstance(event, dict):
        raise InvalidError([FieldProblem(pointer, "应为对象 (an object is needed)")])
    attributes = {name: value for name, value in event.items() if name not in _ENVELOPE_ONLY}
    if "data_base64" not in event:
        return Parsed(attributes, event.get("data"), pointer)
    try:
        content = base64.b64decode(event["data_base64"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise InvalidError([FieldProblem(f"{pointer}/data_base64", f"不是 base64 (no base64): {error}")]) from error
    kind = _media_type(str(event.get("datacontenttype", "application/json")))
    try:
        return Parsed(attributes, _data(kind, str(event.get("type")), content, decode, pointer, "data_base64"), pointer)
    except UnsupportedMediaTypeError as error:
        raise InvalidError([FieldProblem(f"{pointer}/datacontenttype", str(error))]) from error


def _binary(kind: str, headers: Mapping[str, str], body: bytes, decode: DecodeAvro) -> Parsed:
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return Parsed(attributes, _data(kind, attributes.get("type", ""), body, decode))


def _data(kind: str, event_type: str, content: bytes, decode: DecodeAvro, pointer: str = "", field: str = "") -> object:
    """Return the data; ``field`` is the part of the event at ``pointer`` that holds it, empty where the body does."""
    if kind in FRAMED_AVRO:
        try:
            return decode(event_type, content)
        except InvalidError as error:
            raise InvalidError([FieldProblem(pointer + p.pointer, p.detail) for p in error.problems]) from error
    if kind in {"application/json", ""} or kind.endswith("+json"):
        return _json(content, f"{pointer}/{field}" if field else "")
    raise UnsupportedMediaTypeError(f"{kind}: 数据应为 JSON 或 Confluent 格式的 Avro (JSON or framed Avro data)")
