"""The kafka-python admin of the Kafka port: topics, groups, and the users of agencies that read for themselves."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kafka import TopicPartition
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    MemberToRemove,
    OffsetSpec,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    KafkaError,
    NoError,
    NotCoordinatorError,
    SecurityDisabledError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.structs import OffsetAndMetadata

from schemas.topics import TopicSpec
from services.runtime.errors import ConflictError, HongyanError, KafkaUnavailableError, NoAuthoriserError
from services.runtime.kafka.port import Committed, Partition
from services.runtime.kafka.wrapping import wrapped

ANOTHER = "主题 {}：{} 现为 {}，应为 {}；改正后再启动 (this topic is made otherwise: mend it, or name another prefix)"
SETTLED = ("Stable", "Empty", "Dead", "")
SCRAM = "SCRAM-SHA-256"
COORDINATOR_S = 5.0

T = TypeVar("T")


class KafkaPythonAdmin:
    """An admin client of kafka-python."""

    def __init__(self, client: KafkaAdminClient, replication_factor: int | None) -> None:
        self.client = client
        self._replication_factor = replication_factor

    def ensure_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Create those that are missing; raises ConflictError for an existing one that is not as it must be."""
        wanted = list(specs)
        with wrapped("ensure_topics"):
            existing = {topic["name"]: len(topic["partitions"]) for topic in self.client.describe_topics()}
            self._check([spec for spec in wanted if spec.name in existing], existing)
            absent = [spec for spec in wanted if spec.name not in existing]
            if not absent:
                return
            brokers = len(self.client.describe_cluster()["brokers"])
            missing = {spec.name: self._options(spec, brokers) for spec in absent}
            try:
                self.client.create_topics(missing, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                # Another process was quicker with one of them; the others were created all the same.
                self.client.wait_for_topics(list(missing))

    def _check(self, specs: Sequence[TopicSpec], partitions: Mapping[str, int]) -> None:
        if not specs:
            return
        names = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in specs]
        configs = self.client.describe_configs(names, config_filter="all")["topic"]
        different = [
            line
            for spec in specs
            for line in differences(spec, partitions[spec.name], {k: v["value"] for k, v in configs[spec.name].items()})
        ]
        if different:
            raise ConflictError("\n".join(different))

    def _options(self, spec: TopicSpec, brokers: int) -> dict[str, Any]:
        replicas = self._replication_factor or (3 if brokers >= 3 else 1)
        config = spec.config() | ({"min.insync.replicas": "2"} if replicas >= 3 else {})
        return {"num_partitions": spec.partitions, "replication_factor": replicas, "configs": config}

    def list_topics(self) -> set[str]:
        """Return the names of all topics."""
        with wrapped("list_topics"):
            return set(self.client.list_topics())

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete topics; a missing one is no error."""
        with wrapped("delete_topics"):
            try:
                self.client.delete_topics(sorted(topics))
            except UnknownTopicOrPartitionError:
                return

    def cluster_id(self) -> str:
        """Return the cluster's id."""
        with wrapped("cluster_id"):
            return str(self.client.describe_cluster()["cluster_id"])

    def log_ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return the offset after the last record of each, one of an open transaction included."""
        latest = {TopicPartition(*partition): OffsetSpec.LATEST for partition in partitions}
        with wrapped("log_ends"):
            found = self.client.list_partition_offsets(latest) if latest else {}
        return {Partition(*place): at.offset for place, at in found.items()}

    def size_limits(self, topics: Collection[str]) -> dict[str, int]:
        """Return the largest record batch (bytes) that each of these topics takes."""
        names = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        with wrapped("size_limits"):
            configs = self.client.describe_configs(names, config_filter="all")["topic"] if names else {}
        return {topic: int(config["max.message.bytes"]["value"]) for topic, config in configs.items()}

    def group_offsets(self, group: str, partitions: Collection[Partition] | None = None) -> dict[Partition, Committed]:
        """Return what a group has committed, with notes; of these partitions, where some are named."""
        asked = {group: None if partitions is None else [TopicPartition(*p) for p in partitions]}
        found = _patiently("group_offsets", lambda: self.client.list_group_offsets(asked).get(group, {}))
        return _committed(found)

    def groups_offsets(self, groups: Collection[str]) -> dict[str, dict[Partition, Committed]]:
        """Return what each of many groups has committed, asked at once; nothing for one that there is not."""
        wanted = sorted(groups)
        found = _patiently("group_offsets", lambda: self.client.list_group_offsets(wanted)) if wanted else {}
        return {group: _committed(found.get(group, {})) for group in wanted}

    def group_members(self, group: str) -> int:
        """Return how many members a group has now; 0 for one that there is not."""
        return self.groups_members([group])[group]

    def groups_members(self, groups: Collection[str]) -> dict[str, int]:
        """Return how many members each of many groups has now, asked at once."""
        found = _patiently("group_members", lambda: self._described(groups))
        return {group: len(found[group]["members"]) for group in groups}

    def _described(self, groups: Collection[str]) -> dict[str, Any]:
        """Return what the broker says of groups; raises what it says of one that it can't tell of.

        The library hands such an answer out as a group without members.
        """
        found: dict[str, Any] = self.client.describe_groups(sorted(groups)) if groups else {}
        for group in groups:
            error = found[group]["error"]
            if error is not None and (kind := _kind_of(error)) is not GroupIdNotFoundError:
                raise kind(f"{group}: {error}")
        return found

    def set_group_offsets(self, group: str, offsets: Mapping[Partition, Committed]) -> None:
        """Commit for a group that has no member now; raises ConflictError when it has one."""
        wanted = {TopicPartition(*p): OffsetAndMetadata(c.offset, c.note, -1) for p, c in offsets.items()}

        def commit() -> set[Any]:
            refused = {
                error for error in self.client.alter_group_offsets(group, wanted).values() if error is not NoError
            }
            for error in refused:
                if error.retriable:
                    raise error(group)
            return refused

        if _patiently("set_group_offsets", commit):
            raise ConflictError(f"消费组 {group} 正在使用，不能代为提交 (the group has members, who commit themselves)")

    def group_assignment(self, group: str) -> set[Partition]:
        """Return the partitions that a group's members hold; raises KafkaUnavailableError while it is rebalancing."""
        found = _patiently("group_assignment", lambda: self._described([group])[group])
        if found["group_state"] not in SETTLED:
            raise KafkaUnavailableError(f"{group} is rebalancing")
        return {
            Partition(held["topic"], number)
            for member in found["members"]
            for held in _assigned(member["member_assignment"])
            for number in held["partitions"]
        }

    def put_user(self, user: str, password: str) -> None:
        """Make a user who logs in by SCRAM-SHA-256, or change the password; raises HongyanError when it is refused."""
        with wrapped("put_user"):
            answer = self.client.alter_user_scram_credentials([UserScramCredentialUpsertion(user, SCRAM, password)])
        refused = answer.get(user)
        if refused:
            raise HongyanError(f"Kafka 用户 {user} 未能建立 (the user was not made): {refused}")

    def allow_reading(self, user: str, topic: str, group: str) -> None:
        """Let a user read one topic in one group; raises HongyanError, NoAuthoriserError without an authoriser."""
        rights = [
            (ResourceType.TOPIC, topic, ACLOperation.READ),
            (ResourceType.TOPIC, topic, ACLOperation.DESCRIBE),
            (ResourceType.GROUP, group, ACLOperation.READ),
        ]
        acls = [
            ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, name))
            for kind, name, operation in rights
        ]
        with wrapped("allow_reading"):
            answer = self.client.create_acls(acls)
        if answer["failed"]:
            raise _refused(
                "Kafka 未能授权，须启用 authorizer (no right was given; is an authoriser on?)", answer["failed"]
            )

    def forbid_reading(self, user: str, topic: str, group: str) -> None:
        """Take a user's rights to a topic and a group away, at once; raises HongyanError without an authoriser."""
        patterns = ResourcePattern(ResourceType.TOPIC, topic), ResourcePattern(ResourceType.GROUP, group)
        given = [ACLFilter(f"User:{user}", "*", ACLOperation.ANY, ACLPermissionType.ALLOW, one) for one in patterns]
        with wrapped("forbid_reading"):
            answers = self.client.delete_acls(given)
        refused = [error for _, _, error in answers if error is not NoError]
        if refused:
            raise _refused("Kafka 未能收回授权，须启用 authorizer (the right was not taken away)", refused)

    def evict_members(self, group: str) -> None:
        """Put all members out of a group; one that has left meanwhile is no error."""

        def evict() -> None:
            members = self._described([group])[group]["members"]
            if members:
                self.client.remove_group_members(group, [MemberToRemove(one["member_id"]) for one in members])

        _patiently("evict_members", evict)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


def _refused(what: str, errors: Collection[type[KafkaError]]) -> HongyanError:
    """Return our error for rights that were refused."""
    kind = NoAuthoriserError if set(errors) == {SecurityDisabledError} else HongyanError
    return kind(f"{what}: {', '.join(sorted({error.__name__ for error in errors}))}")


def _patiently(what: str, call: Callable[[], T]) -> T:
    """Ask about a group. The first question on a new cluster makes the topic of groups and finds no coordinator."""
    deadline = time.monotonic() + COORDINATOR_S
    pause = threading.Event()
    with wrapped(what):
        while True:
            try:
                return call()
            except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
                if time.monotonic() > deadline:
                    raise
                pause.wait(0.1)


def _kind_of(error: str) -> type[KafkaError]:
    """Return the error that the library has made a text of: ``[Error 15] CoordinatorNotAvailableError``."""
    code = re.match(r"\[Error (-?\d+)\]", error)
    kind: type[KafkaError] = for_code(int(code[1])) if code else KafkaError
    return kind


def _committed(found: Mapping[Any, Any]) -> dict[Partition, Committed]:
    return {Partition(*tp): Committed(o.offset, o.metadata or "") for tp, o in found.items() if o.offset >= 0}


def _assigned(assignment: Any) -> list[dict[str, Any]]:  # noqa: ANN401  (the library is untyped)
    found: list[dict[str, Any]] = assignment["assigned_partitions"] if isinstance(assignment, dict) else []
    return found


def differences(spec: TopicSpec, partitions: int, config: Mapping[str, str]) -> list[str]:
    """Return in what an existing topic is not as its specification asks, a line each: topic, what, found, wanted."""
    found = {"partitions": str(partitions), **config}
    wanted = {"partitions": str(spec.partitions), **spec.fixed_config()}
    return [
        ANOTHER.format(spec.name, name, found.get(name), value)
        for name, value in wanted.items()
        if found.get(name) != value
    ]
