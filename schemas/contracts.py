"""The event types: each is one folder with its Avro schema, its catalogue entry and a sample. No other code names one.

Checked when loaded: the folder's name, the schema's ``hongyan.type`` and the catalogue agree, every field has a ``doc``
and a ``sensitivity``, and every name that the catalogue uses is a field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.formats import FORMATS

ROOT = Path(__file__).parent / "avro"
TYPE_START = "cn.gov.sc"
SENSITIVITIES = ("public", "internal", "personal", "sensitive")

Schema = dict[str, Any]


class ContractError(Exception):
    """An event type's folder is not in order."""


class CatalogueEntry(BaseModel):
    """What the catalogue says of a type (目录): owner, law, sharing attribute, deadline in working days, retention."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title_zh: str
    title_en: str
    owner: str
    legal_basis: tuple[str, ...]
    sharing: Literal["unconditional", "conditional", "none"]
    conditions: tuple[str, ...] = ()
    deadline_working_days: int | None = None
    retention_days: int
    follow_up: bool = False
    natural_subscribers: tuple[str, ...] = ()
    business_key: tuple[str, ...]
    time_field: str


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


@dataclass(frozen=True, slots=True)
class Contracts:
    """All event types, by CloudEvents type."""

    types: Mapping[str, EventContract]

    def domains(self) -> list[str]:
        """Return the domains that have types."""
        return sorted({contract.domain for contract in self.types.values()})

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


def _problems(name: str, domain: str, schema: Schema, catalogue: CatalogueEntry) -> list[str]:
    problems = []
    expected = f"{TYPE_START}.{domain}.{name}"
    if schema.get("hongyan.type") != expected:
        problems.append(f"hongyan.type is {schema.get('hongyan.type')}, but the folder says {expected}")
    for field in schema["fields"]:
        if not field.get("doc"):
            problems.append(f"field {field['name']} has no doc")
        if field.get("sensitivity") not in SENSITIVITIES:
            problems.append(f"field {field['name']} has no sensitivity of {', '.join(SENSITIVITIES)}")
        if field.get("format", "time") not in {*FORMATS, "time"}:
            problems.append(f"field {field['name']} names the unknown format {field['format']}")
    names = {field["name"] for field in schema["fields"]}
    used = {*catalogue.business_key, catalogue.time_field, *(check["field"] for check in schema.get("checks", ()))}
    problems += [f"{field} is used but is no field" for field in sorted(used - names)]
    return problems
