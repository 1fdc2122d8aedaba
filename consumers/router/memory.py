"""What the router must remember: the identities it has seen, and what became of each business key.

It is a fold of ``ledger.routed``, kept in an embedded key-value store so that memory stays bounded and a restart reads
only the tail. The store is written after the transaction that it tells of has committed; what a crash left out is read
again from the ledger, and every write may be done twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from services.routing.fields import union_id
from services.runtime.kafka.port import Partition, Record

CACHE_BYTES = 8 * 1024 * 1024
OFFSET_BYTES = 8
FORM = 3
"""Which form the store has. One of an earlier form lies elsewhere, and this one is made anew of the ledger."""


class Scope:
    """The part of the memory that belongs to one partition of one event topic."""

    __slots__ = ("_backfill", "_identity", "_key", "checkpoint_key", "config_key", "partition")

    def __init__(self, partition: Partition) -> None:
        tag = f"{partition.topic}/{partition.partition}\0".encode()
        self.partition = partition
        self.checkpoint_key = b"c" + tag
        self.config_key = b"v" + tag
        self._backfill = b"b" + tag
        self._identity = b"i" + tag
        self._key = b"k" + tag

    def identity(self, identity: bytes) -> bytes:
        """Return the store's key of an identity, whose value tells of its first event (see :class:`First`)."""
        return self._identity + identity

    def key(self, business_key: bytes) -> bytes:
        """Return the store's key of a business key, whose value tells who got it (see :class:`Held`)."""
        return self._key + business_key

    def backfill(self, subscription: str) -> bytes:
        """Return the store's key of a subscription's backfill of this partition, whose value is its progress."""
        return self._backfill + subscription.encode()


@dataclass(frozen=True, slots=True)
class First:
    """The event that stands for an identity: the digest of its framed bytes, and its offset in the same partition."""

    digest: bytes
    offset: int

    def to_bytes(self) -> bytes:
        """Return it as the store holds it: the offset in eight bytes, then the digest."""
        return self.offset.to_bytes(OFFSET_BYTES, "big") + self.digest

    @classmethod
    def from_bytes(cls, held: bytes) -> First:
        """Read what the store holds."""
        return cls(held[OFFSET_BYTES:], int.from_bytes(held[:OFFSET_BYTES], "big"))


@dataclass(frozen=True, slots=True)
class Given:
    """What an agency got of a business key: the field policy (empty: whole), and the offset of the first event.

    ``followed`` is the offset of the newest follow-up that it got (-1: none): what is older no longer tells the state.
    """

    policy: str
    since: int
    followed: int = -1


@dataclass(frozen=True, slots=True)
class Held:
    """What became of a business key: who got it, and the offset of the event that ended it (-1: it stands)."""

    given: Mapping[str, Given]
    ended: int = -1

    def followed(self, agency: str) -> int:
        """Return the offset of the newest follow-up that an agency got, -1 when it got none."""
        return self.given[agency].followed if agency in self.given else -1

    def to_bytes(self) -> bytes:
        """Return it as the store holds it: ``!<ended>`` and ``agency=policy@since^followed``, joined by commas."""
        parts = [f"!{self.ended}"] if self.ended >= 0 else []
        for agency, one in sorted(self.given.items()):
            name = f"{agency}={one.policy}" if one.policy else agency
            parts.append(f"{name}@{one.since}^{one.followed}" if one.followed >= 0 else f"{name}@{one.since}")
        return ",".join(parts).encode()

    @classmethod
    def from_bytes(cls, held: bytes | None) -> Held:
        """Read what the store holds. Agencies without an offset were written before offsets were kept."""
        if not held:
            return NOTHING
        given, ended = {}, -1
        for part in held.decode().split(","):
            if part[0] == "!":
                ended = int(part[1:])
                continue
            name, _, since = part.partition("@")
            since, _, followed = since.partition("^")
            agency, _, policy = name.partition("=")
            given[agency] = Given(policy, int(since or 0), int(followed or -1))
        return cls(given, ended)

    def after(
        self, agencies: Mapping[str, str], offset: int, effect: str | None = None, *, follows: bool = False
    ) -> Held:
        """Return what is held once these agencies got the event at this offset, each under its policy.

        ``follows``: it is a follow-up. What an agency got under several policies is held under their union.
        """
        followed = offset if follows else -1
        ended = {"ends": max(self.ended, offset), "restores": -1}.get(effect or "", self.ended)
        given = dict(self.given)
        for agency, policy in agencies.items():
            old = given.get(agency)
            if old is None:
                given[agency] = Given(policy, offset, followed)
            elif policy != old.policy or offset < old.since or followed > old.followed:
                both = union_id([old.policy, policy])
                given[agency] = Given(both, min(offset, old.since), max(followed, old.followed))
        return self if given == self.given and ended == self.ended else Held(given, ended)


NOTHING = Held({})


class Memory:
    """The store of one router process. It may be opened by one process at a time.

    ``follow_up_types`` tell which entries of the ledger are of follow-ups, beside those that say what they follow.
    """

    def __init__(self, folder: Path, follow_up_types: Collection[str] = ()) -> None:
        self._follow_up_types = follow_up_types
        folder.mkdir(parents=True, exist_ok=True)
        self._store = Rdict(str(folder), _options())

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of these keys, None where there is none."""
        return [value if isinstance(value, bytes) else None for value in self._store.get(list(keys)) or ()]

    def write(self, changes: Mapping[bytes, bytes], checkpoints: Mapping[Scope, int], config: int = 0) -> None:
        """Write changes, how far the ledger is known, and the newest configuration that it tells of, together."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            batch.put(key, value)
        for scope, offset in checkpoints.items():
            batch.put(scope.checkpoint_key, str(offset).encode())
            if config:
                batch.put(scope.config_key, str(config).encode())
        self._store.write(batch)

    def checkpoint(self, scope: Scope) -> int:
        """Return the first offset of the ledger's partition that this scope has not seen."""
        held = self.get([scope.checkpoint_key])[0]
        return int(held) if held else 0

    def config(self, scope: Scope) -> int:
        """Return the newest configuration that this scope's events were routed by, as far as is known."""
        held = self.get([scope.config_key])[0]
        return int(held) if held else 0

    def forget_checkpoint(self, scope: Scope) -> None:
        """Make the next restore read the ledger from its beginning."""
        self._store.delete(scope.checkpoint_key)

    def fold(self, scopes: Sequence[Scope], records: Sequence[Record]) -> None:
        """Take in records of one ledger partition for the scopes that share it."""
        if not records:
            return
        by_topic = {scope.partition.topic: scope for scope in scopes}
        changes: dict[bytes, bytes] = {}
        config = 0
        for record in records:
            entry = orjson.loads(record.value or b"{}")
            config = max(config, entry.get("config", 0))
            scope = by_topic.get(entry.get("topic", ""))
            if scope is not None:
                self._fold_entry(scope, record.key or b"", entry, changes)
        self.write(changes, dict.fromkeys(scopes, records[-1].offset + 1), config)

    def _fold_entry(self, scope: Scope, key: bytes, entry: dict[str, Any], changes: dict[bytes, bytes]) -> None:
        match entry["verdict"]:
            case "routed":
                first = First(bytes.fromhex(entry["digest"]), entry["offset"])
                changes[scope.identity(bytes.fromhex(entry["identity"]))] = first.to_bytes()
            case "seam" | "backfill":
                changes[scope.backfill(entry["subscription"])] = orjson.dumps(entry["progress"])
                return
            case "backfilled":
                pass
            case _:
                return
        got = {agency: entry.get("fields", {}).get(agency, "") for agency in (*entry["agencies"], *entry["follow_up"])}
        held_at = scope.key(key)
        held = Held.from_bytes(changes[held_at] if held_at in changes else self.get([held_at])[0])
        effect = entry.get("effect") if entry["verdict"] == "routed" else None
        follows = "follows" in entry or entry["type"] in self._follow_up_types
        after = held.after(got, entry["offset"], effect, follows=follows)
        if after is not held:
            changes[held_at] = after.to_bytes()

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(CACHE_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_open_files(64)
    options.set_keep_log_file_num(2)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(CACHE_BYTES))
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options
