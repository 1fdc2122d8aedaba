"""Keeping what people do here, and what personal data they look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import structlog

from services.identity.audit import AuditRepository, Deed, Outcome
from services.portal.web.viewer import Viewer, Visitor
from services.runtime.errors import DatabaseUnavailableError, HongyanError

log = structlog.get_logger()
Detail = str | float | bool | Sequence[str] | Mapping[str, object] | None
"""What may stand beside an act, as JSON."""


class Audit:
    """Writes the audit log. What can't be recorded is not done: call it before the act."""

    def __init__(self, repository: AuditRepository) -> None:
        self.repository = repository

    def record(
        self,
        viewer: Visitor,
        action: str,
        object: str,  # noqa: A002  (the audit's own word)
        reason: str = "",
        outcome: Outcome = "done",
        person: str | None = None,
        **detail: Detail,
    ) -> None:
        """Write what is done to what and why; raises DatabaseUnavailableError when that can't be kept."""
        who = person or (viewer.person.id if viewer.person else "")
        roles = sorted(viewer.roles)
        self.repository.add(Deed(who, action, object, roles, viewer.address, reason, outcome, (), detail))

    @contextmanager
    def doing(
        self,
        viewer: Viewer,
        action: str,
        object: str,  # noqa: A002
        reason: str = "",
        **detail: Detail,
    ) -> Iterator[None]:
        """Record an act before it is done, and afterwards in a second line how it ended.

        Readers are shown the second line; the first alone where nobody could say how it ended.
        """
        first = Deed(
            viewer.person.id, action, object, sorted(viewer.roles), viewer.address, reason, "begun", detail=detail
        )
        begun = self.repository.add(first)
        try:
            yield
        except HongyanError as error:
            ended = replace(first, outcome="failed", begun=begun, detail=detail | {"error": str(error)})
            self.repository.add(ended)
            raise
        try:
            self.repository.add(replace(first, outcome="done", begun=begun))
        except DatabaseUnavailableError as error:
            log.error("audit_end_unwritten", line=begun, error=str(error))

    def viewed(self, viewer: Viewer, object: str, personal_fields: Sequence[str]) -> None:  # noqa: A002
        """Record that personal fields are about to be shown; nothing is recorded where there are none."""
        if not personal_fields:
            return
        deed = Deed(
            viewer.person.id, "view", object, sorted(viewer.roles), viewer.address, fields=sorted(personal_fields)
        )
        self.repository.add(deed)
