"""What people read of an alert: the same facts as a mail, and as JSON for machines. Chinese first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import orjson

from schemas.times import SHANGHAI
from services.alerting.groups import Group, Reason, next_number
from services.runtime.alerts import MEANINGS, SEVERITIES, SEVERITY_NAMES, AlertKind, Severity

_REASON = {"raised": "", "repeated": "仍未解决 · ", "grew": "加重 · ", "resolved": "已解除 · "}
SHOWN, BUNDLE_SHOWN = 10, 50


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to one address. Sent again after a failure or a restart, it has the same id."""

    id: str
    reason: Reason
    kind: AlertKind
    subject: str
    severity: Severity
    number: int
    opened_at: datetime
    closed_at: datetime | None
    size: int
    details: Sequence[str]
    episode: str
    subjects: tuple[str, ...] = ()
    """Of a bundle: whom it is about."""
    said: str = ""
    """Why it ended."""

    @property
    def title(self) -> str:
        """Return the line that says it all."""
        return (
            f"【鸿雁·{SEVERITY_NAMES[self.severity]}】{_REASON[self.reason]}{self.subject}：{MEANINGS[self.kind].title}"
        )

    @property
    def what_to_do(self) -> str:
        """Return what somebody should do, with the exact commands."""
        meaning = MEANINGS[self.kind]
        commands = meaning.commands_for(self.subjects[0] if self.subjects else self.subject)
        return f"{meaning.action}\n    " + "\n    ".join(commands)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, as the webhook has it under ``data``."""
        meaning = MEANINGS[self.kind]
        return {
            "group": f"{self.kind}/{self.subject}",
            "kind": self.kind,
            "subject": self.subject,
            "severity": self.severity,
            "reason": self.reason,
            "number": self.number,
            "opened_at": self.opened_at.isoformat(),
            "closed_at": self.closed_at.isoformat() if self.closed_at else None,
            "ended": self.said or None,
            "size": self.size,
            "title": meaning.title,
            "action": meaning.action,
            "commands": meaning.commands_for(self.subject),
            "details": list(self.details),
        } | ({"subjects": list(self.subjects)} if self.subjects else {})


def notice_of(group: Group, way: str, reason: Reason) -> Notice:
    """Return the next message of a group by one way."""
    number = next_number(group, way)
    told = f"{group.name}|{group.episode}|{number}|{reason == 'resolved'}|{way}"
    return Notice(
        id="alert-" + hashlib.sha256(told.encode()).hexdigest()[:32],
        reason=reason,
        kind=group.kind,
        subject=group.subject,
        severity=group.severity,
        number=number + 1,
        opened_at=group.opened_at,
        closed_at=group.closed_at,
        size=group.size,
        details=tuple(group.details(SHOWN)),
        episode=group.episode,
        said=group.said if group.closed_at is not None else "",
    )


def bundle(notices: Sequence[Notice]) -> Notice:
    """Return one message for several of one kind and reason: when a network is gone, nobody reads five hundred."""
    first = min(notices, key=lambda one: one.opened_at)
    subjects = tuple(sorted(one.subject for one in notices))
    ids = hashlib.sha256("|".join(sorted(one.id for one in notices)).encode()).hexdigest()
    details = [f"{one.subject}：{one.details[0] if one.details else ''}" for one in notices[:BUNDLE_SHOWN]]
    return replace(
        first,
        id=f"alerts-{ids[:32]}",
        subject=f"{len(notices)} 个对象 ({len(notices)} subjects)",
        severity=max((one.severity for one in notices), key=SEVERITIES.index),
        size=sum(one.size for one in notices),
        details=tuple(details),
        subjects=subjects,
    )


def text_of(notice: Notice) -> str:
    """Return the message for people."""
    lines = [
        MEANINGS[notice.kind].title,
        "",
        f"对象 (about)：{notice.subject}",
        f"开始 (since)：{_time(notice.opened_at)}",
    ]
    if notice.closed_at is not None:
        lines += [
            f"结束 (until)：{_time(notice.closed_at)}",
            *([f"缘由 (because)：{notice.said}"] if notice.said else []),
            "",
            "此事已了，不需再做什么 (over; nothing is left to do)。",
        ]
    else:
        lines += [f"数量 (count)：{notice.size}", "", "该做什么 (what to do)：", f"    {notice.what_to_do}"]
    lines += ["", "经过 (details)："] + [f"  - {detail}" for detail in notice.details]
    if notice.size > len(notice.details):
        lines.append("  - …")
    if notice.closed_at is None:
        about = "" if notice.subjects else f" --subject {notice.subject}"
        silence = f"hongyan alerts silence --kind {notice.kind}{about} --hours 4 --reason …"
        lines += [
            "",
            f"第 {notice.number} 次告知 (message {notice.number})。暂不想再收 (to hear no more for a while)：",
            f"    {silence}",
        ]
    return "\n".join(lines) + "\n"


def mail_of(notice: Notice, sender: str, recipient: str, now: datetime) -> EmailMessage:
    """Return the mail. All of one trouble are one conversation in a mail program."""
    mail = EmailMessage()
    mail["Subject"] = notice.title
    mail["From"] = sender
    mail["To"] = recipient
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{notice.id}@hongyan.invalid>"
    thread = hashlib.sha256(f"{notice.kind}|{notice.subject}|{notice.episode}".encode()).hexdigest()[:32]
    mail["References"] = f"<thread-{thread}@hongyan.invalid>"
    mail["X-Hongyan-Severity"] = notice.severity
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text_of(notice))
    return mail


def body_of(notice: Notice, now: datetime) -> bytes:
    """Return the webhook's body, in the shape that Standard Webhooks recommends: type, timestamp, data."""
    kind = "alert.cleared" if notice.reason == "resolved" else "alert.raised"
    return orjson.dumps({"type": kind, "timestamp": now.isoformat(), "data": notice.to_json()})


def _time(at: datetime) -> str:
    return at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")
