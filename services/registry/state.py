"""The registry's state: a fold of its log, in order. Instances that fold the same log agree, without a leader."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from services.registry.compatibility import LEVELS, incompatibilities

DEFAULT_LEVEL = "BACKWARD"


class Refused(Exception):  # noqa: N818
    """A request that the registry refuses, with the API's error code and HTTP status."""

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


@dataclass(slots=True)
class Subject:
    """A subject's versions, oldest first; deleted ones keep their number."""

    versions: list[Version] = field(default_factory=list)
    deleted: set[int] = field(default_factory=set)

    def live(self) -> list[Version]:
        """Return the versions that are not deleted."""
        return [v for v in self.versions if v.version not in self.deleted]


def canonical(text: str) -> str:
    """Return the schema's text with its keys sorted and no white space; raises Refused for what is no Avro schema."""
    try:
        schema = orjson.loads(text)
    except orjson.JSONDecodeError:
        schema = text.strip()
    try:
        parse_schema(schema, _write_hint=False, expand=False, _force=True)
    except (SchemaParseException, UnknownType, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(422, 42201, f"Invalid Avro schema: {type(error).__name__} {error}") from error
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS).decode()


class RegistryState:
    """What the log says so far."""

    def __init__(self) -> None:
        self.subjects: dict[str, Subject] = {}
        self.schemas: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self.levels: dict[str, str] = {}
        self.level = DEFAULT_LEVEL

    def apply(self, entry: dict[str, Any]) -> Version | Refused | None:
        """Fold one entry of the log and return its outcome: the same on every instance."""
        match entry.get("kind"):
            case "register":
                return self._register(entry["subject"], entry["schema"])
            case "config":
                self._configure(entry.get("subject"), entry.get("level"))
            case "delete":
                self._delete(entry["subject"], entry.get("version"))
        return None

    def _register(self, subject: str, text: str) -> Version | Refused:
        held = self.subjects.setdefault(subject, Subject())
        known = self.find(subject, text)
        if known is not None:
            return known
        problems = self.check(subject, text)
        if problems:
            return Refused(409, 409, f"Schema being registered is incompatible with {subject}: " + "; ".join(problems))
        schema_id = self._ids.setdefault(text, len(self.schemas) + 1)
        self.schemas[schema_id] = text
        version = Version(subject, len(held.versions) + 1, schema_id, text)
        held.versions.append(version)
        return version

    def _configure(self, subject: str | None, level: str | None) -> None:
        if subject is None:
            self.level = level or DEFAULT_LEVEL
        elif level is None:
            self.levels.pop(subject, None)
        else:
            self.levels[subject] = level

    def _delete(self, subject: str, version: int | None) -> None:
        held = self.subjects.get(subject, Subject())
        held.deleted |= {v.version for v in held.versions if version in {None, v.version}}

    def find(self, subject: str, text: str) -> Version | None:
        """Return the live version of a subject that has this canonical text."""
        live = self.subjects.get(subject, Subject()).live()
        return next((v for v in live if v.text == text), None)

    def check(self, subject: str, text: str, against: Version | None = None) -> list[str]:
        """Return why the text may not follow the subject's live versions, or the one given."""
        level = self.level_of(subject)
        earlier = [against] if against else self.subjects.get(subject, Subject()).live()
        return incompatibilities(level, orjson.loads(text), [orjson.loads(v.text) for v in earlier])

    def level_of(self, subject: str) -> str:
        """Return the compatibility level in force for a subject."""
        return self.levels.get(subject, self.level)

    def live(self, subject: str) -> list[Version]:
        """Return a subject's live versions; raises Refused when there are none."""
        versions = self.subjects.get(subject, Subject()).live()
        if not versions:
            raise Refused(404, 40401, f"Subject '{subject}' not found.")
        return versions

    def version(self, subject: str, wanted: str) -> Version:
        """Return one live version, by number or ``latest``; raises Refused."""
        versions = self.live(subject)
        if wanted in {"latest", "-1"}:
            return versions[-1]
        if not wanted.isdigit() or int(wanted) < 1:
            raise Refused(422, 42202, f"The specified version '{wanted}' is not a valid version id.")
        found = next((v for v in versions if v.version == int(wanted)), None)
        if found is None:
            raise Refused(404, 40402, f"Version {wanted} not found.")
        return found


def valid_level(level: object) -> str:
    """Return a compatibility level; raises Refused for an unknown one."""
    if isinstance(level, str) and level.upper() in LEVELS:
        return level.upper()
    raise Refused(422, 42203, f"Invalid compatibility level. Valid values are {', '.join(LEVELS)}.")
