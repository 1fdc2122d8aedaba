"""Who is asking: an agency by its own key, and whether it may have its feed now."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import HTTPException

from services.identity.access import AccessKey
from services.identity.repository import key_digest
from services.runtime.clock import Clock
from services.runtime.errors import ForbiddenError
from services.subscriptions.control import ControlView

_NEEDED = "需要接收单位的密钥：Authorization: Bearer hya_… (the agency's own key is needed)"


class AgencyCredentials:
    """Finds the agency of a key by its digest; an agency sees its own feed and nothing else."""

    def __init__(self, view: ControlView, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._version = -1
        self._by_digest: Mapping[str, tuple[str, AccessKey]] = {}

    def check(self, authorization: str, agency: str) -> None:
        """Let an agency to its own feed; raises 401 for no key of ours, ForbiddenError for another's or held feed."""
        scheme, _, credential = authorization.partition(" ")
        self._follow()
        # A digest of 256 random bits gives nothing away by the time that it takes to look up.
        owner, key = self._by_digest.get(key_digest(credential.strip()), (None, None))
        if scheme.lower() != "bearer" or owner is None or key is None:
            raise HTTPException(401, _NEEDED, {"WWW-Authenticate": "Bearer"})
        if key.expires_at is not None and key.expires_at <= self._clock.now():
            detail = f"密钥 {key.id} 已失效 (this key has ended); 请用新密钥"
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
        if owner != agency:
            raise ForbiddenError(f"这把密钥只能读 {owner} 的队列 (this key is for the feed of {owner} only)")
        held = self._view.held(agency)
        if held is not None:
            raise ForbiddenError(f"{held}；事件留在队列中 (the events stay in the feed)")

    def _follow(self) -> None:
        version = self._view.version
        if version != self._version:
            held = list(self._view.access.values())
            self._by_digest = {key.digest: (access.agency, key) for access in held for key in access.keys}
            self._version = version
