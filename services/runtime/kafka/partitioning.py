"""Which partition a key belongs to: murmur2, as every stock client of Kafka has it by default."""

from __future__ import annotations

from kafka.partitioner.default import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition, of so many, on which all records of this key stand."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
