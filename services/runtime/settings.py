"""Every setting, typed in one place. The environment is read here and nowhere else.

``HONGYAN_KAFKA__BOOTSTRAP_SERVERS=…`` sets ``kafka.bootstrap_servers``; ``hongyan settings`` prints them all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

STACK_FILE = "stack.json"
NO_SETTING = "没有这个设置 (no such setting); hongyan settings 列出全部 (lists them all)"


class _Group(BaseModel):
    """Settings that belong together. A name that is none is refused: mistyped, it would be lost."""

    model_config = ConfigDict(extra="forbid")


class KafkaSettings(_Group):
    """Where Kafka is and how it is used."""

    bootstrap_servers: str | None = Field(None, description="host:port[,host:port…]; unset: `hongyan up` starts one")
    topic_prefix: str = Field("", description="put before every topic, group and transactional id")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how clients talk to the brokers"
    )
    sasl_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] = Field(
        "SCRAM-SHA-256", description="how Hongyan's own processes log in, where a username is set"
    )
    username: str | None = Field(None, description="whom Hongyan's own processes log in as")
    password: SecretStr | None = Field(None, description="with which password")
    ca_file: str | None = Field(None, description="certificates of the brokers' issuer (PEM)")
    replication_factor: int | None = Field(None, description="unset: 3 where the cluster has three brokers, else 1")
    silent_s: float = Field(10.0, gt=0, description="seconds without an answer after which /health says: Kafka is away")


class DatabaseSettings(_Group):
    """Where PostgreSQL is."""

    dsn: SecretStr | None = Field(None, description="postgresql://…; unset: `hongyan up` starts one")
    pool_size: int = Field(4, ge=1, description="connections a process holds at most")


class RegistrySettings(_Group):
    """Where the schema registry (Confluent REST API) is."""

    url: str = Field(
        "http://127.0.0.1:8081", description="base address; with one that is set, `hongyan up` starts none"
    )
    timeout_s: float = Field(5.0, gt=0, description="seconds to wait for its answer")


class HttpSettings(_Group):
    """Where a process listens."""

    host: str = Field("127.0.0.1", description="address on which every process listens")


class GatewaySettings(_Group):
    """Limits of the HTTP gateway."""

    url: str = Field("http://127.0.0.1:8080", description="its address, as other processes and commands see it")
    max_body_bytes: int = Field(1024 * 1024, description="a larger body is refused")
    max_batch: int = Field(1000, description="a larger batch is refused")
    acknowledge_timeout_s: float = Field(5.0, gt=0, description="seconds to wait for Kafka's acknowledgement")
    reject_bad_uscc: bool = Field(False, description="refuse a USCC whose check character is wrong; else mark it")
    warnings: dict[str, Literal["flag", "reject"]] = Field(
        {},
        description="an odd value, by `check-character` or other mark, TYPE, or TYPE:mark; the most exact one holds",
    )
    rate_per_s: float = Field(5000, gt=0, description="events a second that one department may send to one gateway")
    burst: int = Field(10_000, ge=1, description="events that a department may send at once before the rate holds")
    max_in_flight: int = Field(64, ge=1, description="requests that are read and sent to Kafka at once")
    max_waiting: int = Field(256, ge=0, description="requests that wait for their turn; further ones get 503 at once")
    remembered: int = Field(50_000, ge=0, description="newest events whose repetition is recognised at once")
    future_skew_s: float = Field(300.0, ge=0, description="an event time further ahead than this is refused")


class OAuthSettings(_Group):
    """OAuth2 client credentials (JWT) at the gateway, beside its own keys; without an issuer only keys are taken."""

    issuer: str | None = Field(None, description="the `iss` that a token must have; unset: no tokens are taken")
    audience: str = Field("hongyan", description="the `aud` that a token must have")
    jwks: str | None = Field(None, description="the issuer's public keys (JWKS): a file, or an https:// address")
    client_claim: str = Field(
        "client_id", description="the claim that names the client; a department has that client id"
    )
    leeway_s: int = Field(30, ge=0, description="seconds that the issuer's clock may differ")
    refresh_s: float = Field(300.0, gt=0, description="seconds after which the public keys are read again")


class RouterSettings(_Group):
    """The router's batch."""

    batch: int = Field(500, ge=1, description="records a transaction at most")
    backfill_per_s: int = Field(1000, ge=1, description="past events that one router reads for backfills, a second")
    backfill_chunk: int = Field(25, ge=1, description="past events a transaction at most; beside live ones fewer")
    slot: str = Field("0", description="name of this router among its siblings; names its transactional id and state")


class RelaySettings(_Group):
    """The outbox relay of one department's database."""

    dsn: SecretStr | None = Field(None, description="postgresql://…, mysql://… or another SQLAlchemy URL")
    source: str | None = Field(None, description="CloudEvents source of the department's events")
    table: str = Field("hongyan_outbox", pattern=r"^(\w+\.)?\w+$", description="the outbox: table or schema.table")
    name: str = Field(
        "outbox", description="one for each outbox, the same for all relays of it; names the transactions"
    )
    after: Literal["mark", "delete"] = Field("mark", description="what becomes of rows that are sent")
    batch: int = Field(500, ge=1, le=2000, description="rows a transaction at most")
    poll_s: float = Field(1.0, gt=0, description="seconds between two looks; PostgreSQL's NOTIFY wakes it before")
    lock_idle_s: float = Field(60.0, ge=1, description="the database ends a relay that hangs for so many seconds")


class DropSettings(_Group):
    """The watched drop folder of one department."""

    folder: Path | None = Field(None, description="holds in/, done/ and rejected/; they are made where missing")
    source: str | None = Field(None, description="CloudEvents source of the department's events")
    type: str | None = Field(None, description="event type of files whose names do not begin with one")
    settle_s: float = Field(5.0, ge=0, description="a file is taken when it has not changed for so many seconds")
    poll_s: float = Field(1.0, gt=0, description="seconds between two looks into in/")


class PollerSettings(_Group):
    """The table poller of one department's table or view."""

    mapping: Path | None = Field(None, description="the mapping file (YAML), see docs/poller.md")
    dsn: SecretStr | None = Field(None, description="SQLAlchemy URL of the database; it goes before the mapping's url")
    lock_idle_s: float = Field(60.0, ge=1, description="the database ends a poller that hangs for so many seconds")


class DeliverySettings(_Group):
    """How the pusher delivers."""

    allowed_networks: list[str] = Field(
        ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"],
        description="networks that a webhook may go to, checked after name resolution",
    )

    @field_validator("allowed_networks")
    @classmethod
    def _are_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            ip_network(network)
        return networks

    window: int = Field(64, ge=1, description="events of one agency between its cursor and the newest in flight")
    concurrency: int = Field(16, ge=1, description="requests of one agency at once")
    catch_up_per_s: float = Field(
        250.0, gt=0, description="events a second of one agency that are over a minute old: the others go on meanwhile"
    )
    timeout_s: float = Field(10.0, gt=0, description="seconds for one delivery")
    connect_timeout_s: float = Field(5.0, gt=0, description="seconds to connect, TLS included")
    require_verification: bool = Field(
        True, description="a new webhook gets nothing before it has answered a signed challenge"
    )
    retry_base_s: float = Field(0.5, gt=0, description="first delay; doubled at every further attempt, with jitter")
    retry_cap_s: float = Field(60.0, gt=0, description="longest delay")
    hold_after: int = Field(3, ge=1, description="failures in a row after which the line is held and only probed")


class StatisticsSettings(_Group):
    """The statistics."""

    metrics: Path | None = Field(
        None, description="folder of your own metric definitions (*.yaml), beside those shipped"
    )


class ReportingSettings(_Group):
    """The monthly bulletin."""

    bulletin: Path = Field(Path("bulletin"), description="folder of the editors' items and of the bulletin's frame")


class FeedsSettings(_Group):
    """The feeds API, from which agencies pull."""

    url: str = Field("http://127.0.0.1:8083", description="its address, as agencies and commands see it")
    max_wait_s: float = Field(60.0, gt=0, description="a long poll waits no longer")
    max_batch: int = Field(1000, ge=1, description="events one answer holds at most")
    max_open: int = Field(2000, ge=1, description="requests and streams that are open at once; further ones get 503")
    max_open_agency: int = Field(50, ge=1, description="of these, of one agency; further ones get 429")
    tail_events: int = Field(512, ge=1, description="newest events of a feed that are kept in memory")
    tail_bytes: int = Field(256 * 1024, ge=1024, description="bytes of them at most, of each feed that is read now")
    idle_s: float = Field(300.0, gt=0, description="seconds after which a feed that nobody reads leaves the memory")
    heartbeat_s: float = Field(15.0, gt=0, description="seconds between two signs of life on a quiet stream")
    history_readers: int = Field(4, ge=1, description="readers of older events, shared by all agencies")
    max_ack: int = Field(5000, ge=1, description="events that one acknowledgement covers at most")
    max_digest: int = Field(100_000, ge=1, description="events that one digest covers at most")


class TableSinkSettings(_Group):
    """The table sink of one agency."""

    config: Path | None = Field(None, description="a YAML file with agency, dsn, prefix, instead of those below")
    agency: str | None = Field(None, description="whose feed is written")
    dsn: SecretStr | None = Field(None, description="the agency's database: postgresql://… or mysql://…")
    prefix: str = Field("", pattern=r"^\w{0,20}$", description="put before the names of its tables")


class SecuritySettings(_Group):
    """Keys."""

    master_key: SecretStr | None = Field(None, description="Fernet key that seals webhook secrets; `up` makes one")
    admin_key: SecretStr | None = Field(None, description="bearer key of the administration API; `up` makes one")


class LogSettings(_Group):
    """How processes log."""

    level: str = Field("INFO", description="lowest level written")
    json_lines: bool = Field(True, description="one JSON object a line; else coloured text")


class MonitorSettings(_Group):
    """The monitor: how often it looks, and its probe through the whole installation."""

    url: str = Field("http://127.0.0.1:8094", description="its address, as the portal, the pusher and commands see it")
    period_s: float = Field(1.0, gt=0, le=60, description="seconds between two looks at everyone's lag")
    objective_s: float = Field(10.0, gt=0, description="a delivery that takes longer from publication counts as slow")
    probe_every_s: float = Field(5.0, ge=0, le=3600, description="seconds between two probe events; 0: no probe")
    probe_late_s: float = Field(2.0, gt=0, description="a probe event that takes longer is late")
    probe_lost_s: float = Field(60.0, gt=0, description="a probe event that is out for longer is lost")


class OidcSettings(_Group):
    """Signing in to the portal by an OpenID Connect issuer, beside its own passwords."""

    issuer: str | None = Field(None, description="address of the issuer; unset: people sign in by password alone")
    client_id: str = Field("hongyan", description="the portal's client id there")
    client_secret: SecretStr | None = Field(None, description="the portal's client secret there")
    scope: str = Field("openid profile", description="what is asked of the issuer")
    claim: str = Field("preferred_username", description="the claim that holds a person's id in Hongyan")
    label: str = Field("统一身份认证 (single sign-on)", description="what the button on the sign-in page says")
    timeout_s: float = Field(5.0, gt=0, description="seconds to wait for the issuer")


class TracingSettings(_Group):
    """Spans of what happens to events, for an OpenTelemetry collector; needs the extra ``hongyan[otel]``."""

    otlp_endpoint: str | None = Field(
        None, description="the collector's OTLP/HTTP address, http://host:4318; unset: nothing is exported"
    )
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="share of the traces begun here that is recorded; a publisher's own choice holds"
    )


class PortalSettings(_Group):
    """The portal and the administration API."""

    url: str = Field("http://127.0.0.1:8082", description="its address, as commands see it")
    public_url: str | None = Field(
        None, description="its address as browsers see it; with https:// cookies are Secure and HSTS is sent"
    )
    person_key: SecretStr | None = Field(
        None, description="a person's own key: commands act as them, not as administrator"
    )
    idle_s: float = Field(1800.0, gt=0, description="seconds without use after which a session ends")
    absolute_s: float = Field(12 * 3600.0, gt=0, description="seconds after which a session ends in any case")
    second_factor_for: Literal["nobody", "administrators", "everybody"] = Field(
        "nobody", description="who must have a second factor (TOTP); others may have one"
    )


class AlertingSettings(_Group):
    """What is worth an alert, and how people are told (docs/alerts.md)."""

    routes: Path | None = Field(None, description="who is told of what, by which way: a YAML file, see docs/alerts.md")
    period_s: float = Field(2.0, gt=0, le=60, description="seconds between two looks at how things stand")
    wait_s: float = Field(30.0, ge=0, description="a warning that ends sooner is told to nobody")
    settle_s: float = Field(60.0, ge=0, description="what stays over for so long is told as over; sooner it goes on")
    news_s: float = Field(300.0, ge=0, description="least seconds between two messages of one trouble that grows")
    repeat_s: float = Field(3600.0, gt=0, description="seconds to the first repetition; doubled at every further one")
    repeat_cap_s: float = Field(86_400.0, gt=0, description="longest time between two repetitions")
    quiet_hours: str | None = Field(
        None,
        pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$",
        description="22:00-07:00: then warnings wait for the morning (Shanghai time); what is critical never does",
    )
    slo_share: float = Field(0.999, gt=0, lt=1, description="share of deliveries within monitor.objective_s")
    slo_least: int = Field(10, ge=1, description="fewer late deliveries in a window burn no budget")
    behind_s: float = Field(300.0, gt=0, description="an event that waits longer for its agency is an alert")
    ending_days: float = Field(30.0, gt=0, description="days before their end at which keys, grants, certificates warn")
    ending_urgent_days: float = Field(7.0, gt=0, description="days before their end at which that is critical")
    follow_up_days: int = Field(1, ge=0, le=30, description="working days before a legal deadline at which it warns")
    disk_free_percent: float = Field(10.0, ge=0, le=100, description="less free space of a disk is a warning")
    disk_urgent_percent: float = Field(5.0, ge=0, le=100, description="less free space of a disk is critical")
    database_bytes: int | None = Field(
        None, ge=1, description="size that the database may have; the percentages hold for it"
    )
    slow_period_s: float = Field(300.0, gt=0, description="seconds between two looks at follow-ups and certificates")
    away_s: float = Field(10.0, gt=0, description="seconds without an answer after which a server counts as away")
    smtp_host: str | None = Field(None, description="mail server; without one no mail is sent")
    smtp_port: int = Field(25, ge=1, le=65_535, description="its port; 465 with smtp_security=tls, 587 with starttls")
    smtp_security: Literal["starttls", "tls", "none"] = Field("starttls", description="how the connection is secured")
    smtp_ca_file: Path | None = Field(None, description="certificates of the mail server's issuer (PEM)")
    smtp_user: str | None = Field(None, description="whom to log in as; unset: no login")
    smtp_password: SecretStr | None = Field(None, description="with which password")
    smtp_from: str = Field("hongyan@localhost", description="sender's address")
    smtp_timeout_s: float = Field(10.0, gt=0, description="seconds for the mail server to answer")


class Settings(BaseSettings):
    """All settings of an installation."""

    model_config = SettingsConfigDict(env_prefix="HONGYAN_", env_nested_delimiter="__", extra="forbid")

    data_dir: Path = Field(Path(".hongyan"), description="where embedded servers and local state live")
    language: str = Field("zh", pattern="^(zh|en)$", description="language of what people read: zh or en")
    kafka: KafkaSettings = KafkaSettings()
    database: DatabaseSettings = DatabaseSettings()
    registry: RegistrySettings = RegistrySettings()
    http: HttpSettings = HttpSettings()
    gateway: GatewaySettings = GatewaySettings()
    oauth: OAuthSettings = OAuthSettings()
    portal: PortalSettings = PortalSettings()
    oidc: OidcSettings = OidcSettings()
    alerting: AlertingSettings = AlertingSettings()
    feeds: FeedsSettings = FeedsSettings()
    monitor: MonitorSettings = MonitorSettings()
    table_sink: TableSinkSettings = TableSinkSettings()
    router: RouterSettings = RouterSettings()
    relay: RelaySettings = RelaySettings()
    drop: DropSettings = DropSettings()
    poller: PollerSettings = PollerSettings()
    delivery: DeliverySettings = DeliverySettings()
    statistics: StatisticsSettings = StatisticsSettings()
    reporting: ReportingSettings = ReportingSettings()
    security: SecuritySettings = SecuritySettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()


def problems_of(error: ValidationError | SettingsError) -> list[str] | None:
    """Return what is wrong with the environment, a line for each variable; None for what is no error of settings."""
    if isinstance(error, SettingsError):
        return [f"{error}: {error.__cause__}; 列表写成 JSON (a list is written as JSON): '[\"10.0.0.0/8\"]'"]
    if error.title not in {Settings.__name__, _CommandSettings.__name__}:
        return None
    names = ("HONGYAN_" + "__".join(map(str, one["loc"])).upper() for one in error.errors())
    said = (NO_SETTING if one["type"] == "extra_forbidden" else one["msg"] for one in error.errors())
    return [f"{name}: {detail}" for name, detail in zip(names, said, strict=True)]


def as_environment(settings: Settings) -> dict[str, str]:
    """Return what differs from the defaults as environment variables, secrets included, for a child process."""
    return dict(_variables("HONGYAN_", settings.model_dump(exclude_defaults=True)))


def _variables(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        full = f"{name}{key.upper()}"
        if isinstance(value, dict):
            yield from _variables(f"{full}__", value)
        elif isinstance(value, SecretStr):
            yield full, value.get_secret_value()
        elif value is not None:
            yield full, str(value) if isinstance(value, str | Path) else json.dumps(value)


def with_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these variables set, for a child process."""
    return {**os.environ, **more}


class _RunningStack(EnvSettingsSource):
    """What ``hongyan up`` wrote of itself into its data folder, in the form of environment variables."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        folder = Path(os.environ.get("HONGYAN_DATA_DIR", Settings.model_fields["data_dir"].default))
        try:
            held = json.loads((folder / STACK_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {name.lower(): value for name, value in held["environment"].items()}


class _CommandSettings(Settings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _RunningStack(settings_cls)


def settings_for_cli() -> Settings:
    """Return the settings of a command: the environment's, and below them those of the stack that runs here."""
    return _CommandSettings()
