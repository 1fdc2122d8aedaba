"""Keeping what people do here, and what personal data they look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from services.identity.audit import AuditRepository, Deed, Outcome
from services.portal.web.viewer import Viewer, Visitor
from services.runtime.errors import HongyanError

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
        """Record an act, and when it fails a second line that says so."""
        self.record(viewer, action, object, reason, "done", None, **detail)
        try:
            yield
        except HongyanError as error:
            self.record(viewer, action, object, reason, "failed", None, error=str(error))
            raise

    def viewed(self, viewer: Viewer, object: str, personal_fields: Sequence[str]) -> None:  # noqa: A002
        """Record that personal fields are about to be shown; nothing is recorded where there are none."""
        if not personal_fields:
            return
        deed = Deed(
            viewer.person.id, "view", object, sorted(viewer.roles), viewer.address, fields=sorted(personal_fields)
        )
        self.repository.add(deed)
