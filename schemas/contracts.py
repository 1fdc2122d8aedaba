"""The event types: each is one folder with its Avro schema, its catalogue entry and a sample. No other code names one.

Checked when loaded: the folder's name, the schema's ``hongyan.type`` and the catalogue agree, every field has a ``doc``
and a ``sensitivity``, and every name that the catalogue uses is a field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.formats import FORMATS
from schemas.labels import label_of

ROOT = Path(__file__).parent / "avro"
TYPE_START = "cn.gov.sc"
SENSITIVITIES = ("public", "internal", "personal", "sensitive")
# 《政务数据共享条例》 Art 29 and the network-data regulation Art 12: at least three years.
LEAST_RETENTION_DAYS = 1096

Schema = dict[str, Any]


class ContractError(Exception):
    """An event type's folder is not in order."""


class CatalogueEntry(BaseModel):
    """What the catalogue says of a type (目录): owner, law, sharing attribute, deadline in working days, retention.

    ``sharing`` is 无条件共享 (unconditional), 有条件共享 (conditional, on the ``conditions``) or 不予共享 (none).
    ``notice`` names who is told outside government data sharing (通报), on a legal basis of its own (domain rule 1.2).
    ``effect``: the event ends what stood under its business key (``ends``), or brings it back (``restores``); what has
    ended is not delivered again as if it stood. ``named_receivers`` is the field that names the only agencies it may go
    to: no subscription widens that. ``probe``: the system's own, by which it watches itself: no department publishes
    it, no agency subscribes to it, and it is in no ledger and no figure.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title_zh: str
    title_en: str
    owner: str
    legal_basis: Annotated[tuple[str, ...], Field(min_length=1)]
    sharing: Literal["unconditional", "conditional", "none"]
    conditions: tuple[str, ...] = ()
    deadline_working_days: Annotated[int, Field(ge=1)] | None = None
    retention_days: Annotated[int, Field(ge=LEAST_RETENTION_DAYS)]
    follow_up: bool = False
    effect: Literal["ends", "restores"] | None = None
    natural_subscribers: tuple[str, ...] = ()
    warnings: Mapping[Literal["check-character", "unusual-form", "offset-assumed"], Literal["flag", "reject"]] = {}
    notice: tuple[str, ...] = ()
    named_receivers: str | None = None
    probe: bool = False
    business_key: Annotated[tuple[str, ...], Field(min_length=1)]
    time_field: str

    @model_validator(mode="after")
    def _sharing_agrees(self) -> Self:
        if self.sharing == "conditional" and not self.conditions:
            raise ValueError("conditional sharing names its conditions")
        if self.sharing == "none" and (self.natural_subscribers or self.notice):
            raise ValueError("what is not shared has no subscribers")
        if self.effect is not None and not self.follow_up:
            raise ValueError("what ends or restores something goes to all who got it: follow_up")
        if self.named_receivers is not None and self.sharing != "conditional":
            raise ValueError("what goes to named receivers only is shared on conditions")
        return self


@dataclass(frozen=True, slots=True)
class EventContract:
    """One event type. ``subject`` is its registry subject (the record's full name)."""

    type: str
    domain: str
    schema: Schema
    subject: str
    catalogue: CatalogueEntry
    sample: Mapping[str, Any]

    @property
    def follow_up(self) -> bool:
        """Tell whether events of this type go to everyone who got the original."""
        return self.catalogue.follow_up

    def business_key(self, data: Mapping[str, Any]) -> str:
        """Return the business key of valid data: the catalogue's fields, joined by a slash."""
        return "/".join(str(data[name]) for name in self.catalogue.business_key)

    def fields(self) -> Sequence[Schema]:
        """Return the schema's fields."""
        fields: Sequence[Schema] = self.schema["fields"]
        return fields

    def sensitivities(self) -> Mapping[str, str]:
        """Return the sensitivity of every field by its path; a record's fields follow a dot."""
        return {path: field["sensitivity"] for path, field in walk_fields(self.schema)}


@dataclass(frozen=True, slots=True)
class Contracts:
    """All event types, by CloudEvents type."""

    types: Mapping[str, EventContract]

    def domains(self) -> list[str]:
        """Return the domains that have types, the probe's left out."""
        return sorted({contract.domain for contract in self.types.values() if not contract.catalogue.probe})

    def probe_types(self) -> frozenset[str]:
        """Return the types of the system's own probe."""
        return frozenset(name for name, contract in self.types.items() if contract.catalogue.probe)

    def named_receiver_types(self) -> frozenset[str]:
        """Return the types that go only to the agencies that each event names."""
        return frozenset(name for name, contract in self.types.items() if contract.catalogue.named_receivers)

    def unshared_types(self) -> frozenset[str]:
        """Return the types that their owner does not share (不予共享)."""
        return frozenset(name for name, contract in self.types.items() if contract.catalogue.sharing == "none")

    def effects(self) -> Mapping[str, str]:
        """Return what events do to what stands under their business key, by type, where they do something."""
        return {name: c.catalogue.effect for name, c in self.types.items() if c.catalogue.effect is not None}

    def follow_up_types(self) -> frozenset[str]:
        """Return the types that go to everyone who got the original."""
        return frozenset(name for name, contract in self.types.items() if contract.follow_up)


@cache
def load_contracts(root: Path = ROOT) -> Contracts:
    """Load every type; raises ContractError that names the folder and what is wrong."""
    folders = sorted(folder for folder in root.glob("*/*") if folder.is_dir())
    contracts = [_load(folder) for folder in folders]
    return Contracts({contract.type: contract for contract in contracts})


def _load(folder: Path) -> EventContract:
    try:
        schema: Schema = json.loads((folder / "schema.avsc").read_text(encoding="utf-8"))
        catalogue = CatalogueEntry(**yaml.safe_load((folder / "catalogue.yaml").read_text(encoding="utf-8")))
        sample = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, yaml.YAMLError, ValidationError) as error:
        raise ContractError(f"{folder.parent.name}/{folder.name}: {error}") from error
    domain = folder.parent.name
    problems = _problems(folder.name, domain, schema, catalogue)
    if problems:
        raise ContractError(f"{domain}/{folder.name}: " + "; ".join(problems))
    subject = f"{schema['namespace']}.{schema['name']}"
    return EventContract(schema["hongyan.type"], domain, schema, subject, catalogue, sample)


def walk_fields(record: Schema, prefix: str = "") -> Iterator[tuple[str, Schema]]:
    """Give every field of a record with its path, the fields of nested records after their own field."""
    for field in record["fields"]:
        yield prefix + field["name"], field
        nested = nested_record(field["type"])
        if nested is not None:
            yield from walk_fields(nested, f"{prefix}{field['name']}.")


def nested_record(kind: Any) -> Schema | None:  # noqa: ANN401  (an Avro type is text, a list or an object)
    """Return the record that a type holds, alone, as a branch or as the items of a list; None when it holds none."""
    if isinstance(kind, list):
        return next((found for branch in kind if (found := nested_record(branch)) is not None), None)
    if not isinstance(kind, dict):
        return None
    return kind if kind["type"] == "record" else nested_record(kind.get("items"))


_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


def _records(kind: Any) -> list[Any]:  # noqa: ANN401
    """Return the records that a type holds beside each other; what is only named may be one."""
    if isinstance(kind, list):
        return [found for branch in kind for found in _records(branch)]
    if isinstance(kind, str):
        return [kind] if kind not in _PRIMITIVES else []
    inner = kind.get("items", kind.get("values"))
    return [kind] if kind["type"] == "record" else _records(inner) if inner is not None else []


def _problems(name: str, domain: str, schema: Schema, catalogue: CatalogueEntry) -> list[str]:
    problems = []
    expected = f"{TYPE_START}.{domain}.{name}"
    if schema.get("hongyan.type") != expected:
        problems.append(f"hongyan.type is {schema.get('hongyan.type')}, but the folder says {expected}")
    for path, field in walk_fields(schema):
        if not field.get("doc"):
            problems.append(f"field {path} has no doc")
        if field.get("sensitivity") not in SENSITIVITIES:
            problems.append(f"field {path} has no sensitivity of {', '.join(SENSITIVITIES)}")
        if len(_records(field["type"])) > 1:
            problems.append(f"field {path} may be one of several records, of which no field can be granted by its path")
        if field.get("format", "time") not in {*FORMATS, "time"}:
            problems.append(f"field {path} names the unknown format {field['format']}")
    labels = [label_of(field.get("doc", "")) for field in schema["fields"] if "derived" not in field]
    problems += [
        f"two fields are labelled {label}" for label in sorted(set(labels)) if label and labels.count(label) > 1
    ]
    names = {field["name"] for field in schema["fields"]}
    used = {*catalogue.business_key, catalogue.time_field, *(check["field"] for check in schema.get("checks", ()))}
    used |= {catalogue.named_receivers} if catalogue.named_receivers else set()
    problems += [f"{field} is used but is no field" for field in sorted(used - names)]
    return problems
