"""The registry's state: a fold of its log, in order. Instances that fold the same log agree, without a leader.

An entry is a request, and its verdict comes from the fold. Ids don't hang on verdicts: a text's id is its rank among
the texts that stand in the log, refused or not. A later version of the compatibility rules may then judge an old entry
otherwise, but can never give an id, which stands in every event, to another schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.registry.avro import InvalidSchemaError, SchemaTooLargeError, canonical, parse
from services.registry.avro_types import Type
from services.registry.compatibility import LEVELS, incompatibilities
from services.runtime.errors import HongyanError

DEFAULT_LEVEL = "BACKWARD"
DEFAULT_MODE = "READWRITE"
MODES = ("READWRITE", "READONLY")
MAX_SUBJECT = 512


class RefusedError(HongyanError):
    """The registry refuses the request; carries the API's HTTP status and error code."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a subject."""

    subject: str
    version: int
    id: int
    text: str
    parsed: Type


@dataclass(slots=True)
class Subject:
    """A subject's versions, oldest first; those deleted softly keep their number."""

    versions: list[Version] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)

    def listed(self, *, deleted: bool = False, deleted_only: bool = False) -> list[Version]:
        """Return the live versions; with ``deleted`` also, with ``deleted_only`` only those deleted softly."""
        if deleted and not deleted_only:
            return list(self.versions)
        return [v for v in self.versions if (v.version in self.deleted) is deleted_only]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The outcome of a deletion."""

    versions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Changed:
    """The outcome of a change of configuration: what was in force before."""

    before: str


Outcome = Version | Deletion | Changed


@dataclass(slots=True)
class Setting:
    """A compatibility level or mode: the installation's, and those of single subjects."""

    default: str
    overall: str | None = None
    by_subject: dict[str, str] = field(default_factory=dict)

    def of(self, subject: str | None = None) -> str:
        """Return what is in force for a subject, or for the installation."""
        return self.by_subject.get(subject or "") or self.overall or self.default

    def change(self, subject: str | None, value: str | None) -> Changed:
        """Set it, or with None take it back."""
        before = Changed(self.of(subject))
        if subject is None:
            self.overall = value
        elif value is None:
            self.by_subject.pop(subject, None)
        else:
            self.by_subject[subject] = value
        return before


class RegistryState:
    """What the log says so far."""

    def __init__(self) -> None:
        self.schemas: dict[int, str] = {}
        self.levels = Setting(DEFAULT_LEVEL)
        self.modes = Setting(DEFAULT_MODE)
        self._subjects: dict[str, Subject] = {}
        self._ids: dict[str, int] = {}

    def apply(self, value: bytes | None) -> Outcome | RefusedError:
        """Fold one entry and return its verdict: the same on every instance, whatever the bytes."""
        try:
            entry = orjson.loads(value or b"")
            if not isinstance(entry, dict):
                return _malformed()
            return self._apply(entry)
        except orjson.JSONDecodeError:
            return _malformed()
        except RefusedError as refusal:
            return refusal

    def _apply(self, entry: Mapping[str, Any]) -> Outcome:
        subject, schema, number, setting = (entry.get(name) for name in ("subject", "schema", "version", "value"))
        match entry.get("kind"), subject:
            case "register", str() if isinstance(schema, str):
                return self._register(subject, schema)
            case "delete", str() if number is None or isinstance(number, int):
                self._check_writable(subject)
                return self._delete(subject, number, permanent=entry.get("permanent") is True)
            case "level", str() | None if setting is None or setting in LEVELS:
                self._check_writable(subject)
                return self.levels.change(subject, setting)
            case "mode", str() | None if setting is None or setting in MODES:
                return self.modes.change(subject, setting)
        raise _malformed()

    def _register(self, subject: str, text: str) -> Version:
        schema_id = self._ids.setdefault(text, len(self._ids) + 1)
        known = self.find(subject, text)
        if known is not None:
            return known
        self._check_writable(subject)
        parsed = parsed_schema(text)
        messages = self.check(subject, parsed)
        if messages:
            raise incompatible(subject, messages)
        self.schemas[schema_id] = text
        held = self._subjects.setdefault(subject, Subject())
        number = held.versions[-1].version + 1 if held.versions else 1
        held.versions.append(Version(subject, number, schema_id, text, parsed))
        return held.versions[-1]

    def _check_writable(self, subject: str | None) -> None:
        if self.modes.of(subject) == "READONLY":
            raise RefusedError(422, 42205, f"Subject {subject or '(all)'} is in read-only mode")

    def _delete(self, subject: str, number: int | None, *, permanent: bool) -> Deletion:
        """Delete softly, or for good what was deleted softly before; schemas stay known by their id for ever."""
        chosen = self._chosen(subject, number, permanent=permanent)
        held = self._subjects[subject]
        numbers = [v.version for v in chosen]
        if permanent:
            held.versions = [v for v in held.versions if v.version not in numbers]
            held.deleted -= set(numbers)
        else:
            held.deleted |= set(numbers)
        if not held.versions:
            del self._subjects[subject]
        if number is None:
            self.levels.change(subject, None)
            self.modes.change(subject, None)
        return Deletion(numbers)

    def _chosen(self, subject: str, number: int | None, *, permanent: bool) -> list[Version]:
        every = self.versions(subject, deleted=True)
        held = self._subjects[subject]
        wanted = [v for v in every if number in {None, v.version}]
        live = [v for v in wanted if v.version not in held.deleted]
        name = f"Subject '{subject}'" + (f" Version {number}" if number is not None else "")
        again = 0 if number is None else 2
        if not wanted:
            raise RefusedError(404, 40402, f"Version {number} not found.")
        if permanent and live:
            raise RefusedError(404, 40405 + again, f"{name} was not deleted first before being permanently deleted")
        if not permanent and not live:
            raise RefusedError(404, 40404 + again, f"{name} was soft deleted. Set permanent=true to delete permanently")
        return wanted if permanent else live

    def find(self, subject: str, text: str, *, deleted: bool = False) -> Version | None:
        """Return the version of a subject that has this canonical text."""
        held = self._subjects.get(subject, Subject()).listed(deleted=deleted)
        return next((v for v in reversed(held) if v.text == text), None)

    def check(self, subject: str, parsed: Type, against: Version | None = None) -> list[str]:
        """Return why the schema may not follow the subject's live versions, or the one given."""
        earlier = [against] if against else self._subjects.get(subject, Subject()).listed()
        return incompatibilities(self.levels.of(subject), parsed, [(v.version, v.parsed) for v in earlier])

    def subjects(self, prefix: str = "", *, deleted: bool = False, deleted_only: bool = False) -> list[str]:
        """Return the names of the subjects that have such versions, sorted."""
        named = ((name, held) for name, held in self._subjects.items() if name.startswith(prefix))
        return sorted(name for name, held in named if held.listed(deleted=deleted, deleted_only=deleted_only))

    def versions(self, subject: str, *, deleted: bool = False, deleted_only: bool = False) -> list[Version]:
        """Return a subject's versions; raises RefusedError when it has none at all."""
        held = self._subjects.get(subject, Subject())
        if not held.listed(deleted=deleted or deleted_only):
            raise RefusedError(404, 40401, f"Subject '{subject}' not found.")
        return held.listed(deleted=deleted, deleted_only=deleted_only)

    def version(self, subject: str, wanted: str, *, deleted: bool = False) -> Version:
        """Return one version, by number or ``latest``; raises RefusedError."""
        latest = wanted in {"latest", "-1"}
        if not latest and (not (wanted.isascii() and wanted.isdigit()) or not 0 < int(wanted[:20]) < 1 << 31):
            message = f"The specified version '{wanted}' is not a valid version id. Allowed: 1 to 2^31-1, or 'latest'."
            raise RefusedError(422, 42202, message)
        found = self.versions(subject, deleted=deleted)
        chosen = found[-1] if latest else next((v for v in found if v.version == int(wanted)), None)
        if chosen is None:
            raise RefusedError(404, 40402, f"Version {wanted} not found.")
        return chosen

    def versions_of(self, schema_id: int, *, deleted: bool = False) -> list[Version]:
        """Return the versions, of any subject, that have this schema; raises RefusedError for an unknown id."""
        if schema_id not in self.schemas:
            raise unknown_schema(schema_id)
        held = (self._subjects[name].listed(deleted=deleted) for name in self.subjects(deleted=deleted))
        return [v for versions in held for v in versions if v.id == schema_id]


def canonical_text(text: str) -> str:
    """Return a schema's canonical text; raises RefusedError for what is no Avro schema."""
    try:
        return canonical(text)
    except InvalidSchemaError as error:
        raise _invalid(error) from error


def parsed_schema(text: str) -> Type:
    """Return a schema parsed; raises RefusedError for what is no Avro schema."""
    try:
        return parse(text)
    except InvalidSchemaError as error:
        raise _invalid(error) from error


def check_subject(subject: str) -> str:
    """Return a subject's name; raises RefusedError for one that can't be."""
    if 0 < len(subject) <= MAX_SUBJECT and subject.isprintable():
        return subject
    raise RefusedError(422, 42208, f"The specified subject {subject[:64]!r} is not a valid subject.")


def check_level(level: object) -> str:
    """Return a compatibility level; raises RefusedError for an unknown one."""
    if isinstance(level, str) and level.upper() in LEVELS:
        return level.upper()
    raise RefusedError(422, 42203, f"Invalid compatibility level {level!r}. Valid values are {', '.join(LEVELS)}.")


def check_mode(mode: object) -> str:
    """Return a mode; raises RefusedError for one that this registry doesn't know."""
    if isinstance(mode, str) and mode.upper() in MODES:
        return mode.upper()
    raise RefusedError(422, 42204, f"Invalid mode {mode!r}. Valid values are {', '.join(MODES)}.")


def incompatible(subject: str, messages: Sequence[str]) -> RefusedError:
    """Return the refusal of a schema that may not follow the subject's versions."""
    start = f'Schema being registered is incompatible with an earlier schema for subject "{subject}", details: '
    return RefusedError(409, 409, f"{start}[{', '.join(messages)}]")


def unknown_schema(schema_id: int | None = None) -> RefusedError:
    """Return the refusal of a schema that isn't there."""
    return RefusedError(404, 40403, "Schema not found" if schema_id is None else f"Schema {schema_id} not found")


def _invalid(error: InvalidSchemaError) -> RefusedError:
    if isinstance(error, SchemaTooLargeError):
        return RefusedError(422, 42209, str(error))
    return RefusedError(422, 42201, f"Invalid schema: {error}")


def _malformed() -> RefusedError:
    return RefusedError(500, 50001, "The record on the log is no entry of this registry")
