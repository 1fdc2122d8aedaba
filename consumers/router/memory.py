"""What the router must remember: the identities it has seen and who got each business key.

It is a fold of ``ledger.routed``, kept in an embedded key-value store so that memory stays bounded and a restart reads
only the tail. The store is written after the transaction that it tells of has committed; what a crash left out is read
again from the ledger, and every write may be done twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson
from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from services.runtime.kafka.port import Partition, Record

CACHE_BYTES = 8 * 1024 * 1024


class Scope:
    """The part of the memory that belongs to one partition of one event topic."""

    __slots__ = ("_identity", "_key", "checkpoint_key", "partition")

    def __init__(self, partition: Partition) -> None:
        tag = f"{partition.topic}/{partition.partition}\0".encode()
        self.partition = partition
        self.checkpoint_key = b"c" + tag
        self._identity = b"i" + tag
        self._key = b"k" + tag

    def identity(self, identity: bytes) -> bytes:
        """Return the store's key of an identity, whose value is the content's digest."""
        return self._identity + identity

    def key(self, business_key: bytes) -> bytes:
        """Return the store's key of a business key, whose value names the agencies that got it."""
        return self._key + business_key


def agencies_to_bytes(agencies: Iterable[str]) -> bytes:
    """Return the agencies as the store holds them: sorted and joined by commas."""
    return ",".join(sorted(agencies)).encode()


def agencies_from_bytes(held: bytes | None) -> frozenset[str]:
    """Return the agencies that the store names."""
    return frozenset(held.decode().split(",")) if held else frozenset()


class Memory:
    """The store of one router process. It may be opened by one process at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._store = Rdict(str(folder), _options())

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the values of these keys, None where there is none."""
        return [value if isinstance(value, bytes) else None for value in self._store.get(list(keys)) or ()]

    def write(self, changes: dict[bytes, bytes], checkpoints: dict[Scope, int]) -> None:
        """Write changes and how far the ledger is known, together."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            batch.put(key, value)
        for scope, offset in checkpoints.items():
            batch.put(scope.checkpoint_key, str(offset).encode())
        self._store.write(batch)

    def checkpoint(self, scope: Scope) -> int:
        """Return the first offset of the ledger's partition that this scope has not seen."""
        held = self.get([scope.checkpoint_key])[0]
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
        for record in records:
            entry = orjson.loads(record.value or b"{}")
            scope = by_topic.get(entry.get("topic", ""))
            if scope is not None and entry["verdict"] == "routed":
                self._fold_entry(scope, record.key or b"", entry, changes)
        self.write(changes, dict.fromkeys(scopes, records[-1].offset + 1))

    def _fold_entry(self, scope: Scope, key: bytes, entry: dict[str, object], changes: dict[bytes, bytes]) -> None:
        changes[scope.identity(bytes.fromhex(str(entry["identity"])))] = bytes.fromhex(str(entry["digest"]))
        got = {*_names(entry["agencies"]), *_names(entry["follow_up"])}
        if got:
            held_at = scope.key(key)
            held = changes[held_at] if held_at in changes else self.get([held_at])[0]
            changes[held_at] = agencies_to_bytes(agencies_from_bytes(held) | got)

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def _names(value: object) -> Iterable[str]:
    return value if isinstance(value, dict | list) else ()


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
