"""The ways to people: mail over SMTP, a signed webhook. Each makes one attempt and says exactly what went wrong."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from services.alerting.messages import Notice, body_of, mail_of
from services.alerting.routes import Webhook
from services.delivery.message import Post
from services.delivery.network import Network
from services.delivery.outcome import Delivered
from services.delivery.profile import profile_of
from services.delivery.receiver import LiveKey, Receiver
from services.delivery.sender import Sender
from services.runtime.settings import AlertingSettings, DeliverySettings

LOGIN_NEEDED = 530


class Way(Protocol):
    """One address, by one way."""

    @property
    def name(self) -> str:
        """Return what it is called by, the same over restarts."""
        ...

    def send(self, notice: Notice) -> str | None:
        """Make one attempt, of bounded time; return what went wrong, None when the message is on its way."""
        ...


class Mail:
    """Sends to one address. Each message is a conversation of its own with the mail server."""

    def __init__(self, settings: AlertingSettings, recipient: str) -> None:
        self.name = f"mail:{recipient}"
        self._settings = settings
        self._recipient = recipient

    def send(self, notice: Notice) -> str | None:
        """Hand the mail to the server; it has it for good when this returns None."""
        settings = self._settings
        if settings.smtp_host is None:
            return "没有设置邮件服务器 (no mail server is set): HONGYAN_ALERTING__SMTP_HOST"
        where = f"{settings.smtp_host}:{settings.smtp_port}"
        try:
            self._send(settings.smtp_host, notice)
        except smtplib.SMTPAuthenticationError as error:
            return f"{where} 不认登录 (login refused): {_said(error)}；查 HONGYAN_ALERTING__SMTP_USER、SMTP_PASSWORD"
        except smtplib.SMTPNotSupportedError as error:
            return f"{where} 不支持 (not supported): {error}；查 HONGYAN_ALERTING__SMTP_SECURITY、SMTP_USER"
        except smtplib.SMTPRecipientsRefused as error:
            refused = "; ".join(
                f"{who}: {code} {text.decode(errors='replace')}" for who, (code, text) in error.recipients.items()
            )
            return f"{where} 不收此收件人 (recipient refused): {refused}"
        except smtplib.SMTPResponseException as error:
            return f"{where} {_refusal(error)}"
        except ssl.SSLError as error:
            return f"{where} TLS 失败 (TLS failed): {error}；查 HONGYAN_ALERTING__SMTP_SECURITY、SMTP_CA_FILE"
        except (OSError, smtplib.SMTPException, ValueError) as error:
            return f"{where} 没有应答或断开 (no answer, or broken off): {type(error).__name__}: {error}"
        return None

    def _send(self, host: str, notice: Notice) -> None:
        settings = self._settings
        mail = mail_of(notice, settings.smtp_from, self._recipient, datetime.now(UTC))
        with self._connect(host) as server:
            if settings.smtp_security == "starttls":
                server.starttls(context=self._context())
            if settings.smtp_user is not None:
                password = settings.smtp_password.get_secret_value() if settings.smtp_password else ""
                server.login(settings.smtp_user, password)
            server.send_message(mail)

    def _connect(self, host: str) -> smtplib.SMTP:
        settings = self._settings
        if settings.smtp_security == "tls":
            return smtplib.SMTP_SSL(host, settings.smtp_port, timeout=settings.smtp_timeout_s, context=self._context())
        return smtplib.SMTP(host, settings.smtp_port, timeout=settings.smtp_timeout_s)

    def _context(self) -> ssl.SSLContext:
        file = self._settings.smtp_ca_file
        return ssl.create_default_context(cafile=str(file) if file else None)


def _refusal(error: smtplib.SMTPResponseException) -> str:
    if error.smtp_code == LOGIN_NEEDED:
        return f"要求先登录 (a login is needed): {_said(error)}；查 HONGYAN_ALERTING__SMTP_USER、SMTP_SECURITY"
    if isinstance(error, smtplib.SMTPSenderRefused):
        return f"不收此发件人 (sender refused): {_said(error)}；查 HONGYAN_ALERTING__SMTP_FROM"
    return f"拒收 (refused): {_said(error)}"


def _said(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error
    return f"{error.smtp_code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"


class Hook:
    """Posts to one address, signed, under the same network check as deliveries to agencies."""

    def __init__(self, webhook: Webhook, networks: Sequence[Network], defaults: DeliverySettings) -> None:
        self.name = f"webhook:{webhook.url}"
        self._networks = networks
        keys = (LiveKey(webhook.secret.get_secret_value()),)
        self._receiver = Receiver("alerts", webhook.url, keys, profile_of({}, defaults, lambda sealed: sealed))

    def send(self, notice: Notice) -> str | None:
        """Post it; a 2xx ends it."""
        return asyncio.run(self._send(notice))

    async def _send(self, notice: Notice) -> str | None:
        now = datetime.now(UTC)
        sender = Sender(self._networks)
        try:
            post = Post(notice.id, 0, "application/json", {}, body_of(notice, now))
            outcome = await sender.send(self._receiver, post, now)
        finally:
            await sender.close()
        return None if isinstance(outcome, Delivered) else f"{self._receiver.sink}: {outcome.reason}"
