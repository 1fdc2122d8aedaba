"""The bare loops that ours is measured against: the same job with the client library alone, tuned alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata

Match = Callable[[dict[str, bytes]], list[str]]


def route(address: str, group: str, source: str, count: int, match: Match, targets: Sequence[str], batch: int) -> float:
    """Route ``count`` records exactly once with kafka-python alone; return the seconds from the first batch to the end.

    ``match`` gives those of ``targets`` that a record goes to, by its headers. What is known of these topics is
    fetched before the first batch, all at once, as ours does. No ledger, no duplicates found, no restore.
    """
    producer = KafkaProducer(
        bootstrap_servers=address,
        transactional_id=f"{group}-{random.random()}",
        linger_ms=0,
        retry_backoff_ms=5,
        batch_size=131_072,
        max_request_size=2 * 1024 * 1024,
    )
    producer.init_transactions()
    producer._metadata.set_topics(set(targets))
    for target in targets:
        producer.partitions_for(target)
    consumer = KafkaConsumer(
        source,
        bootstrap_servers=address,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_bytes=4 * 1024 * 1024,
        max_partition_fetch_bytes=512 * 1024,
    )
    done, began = 0, 0.0
    while done < count:
        found = consumer.poll(200, max_records=batch)
        if not found:
            continue
        began = began or time.perf_counter()
        producer.begin_transaction()
        offsets = {}
        for partition, records in found.items():
            for record in records:
                for topic in match(dict(record.headers)):
                    producer.send(
                        topic,
                        key=record.key,
                        value=record.value,
                        headers=record.headers,
                        partition=0,
                        timestamp_ms=record.timestamp,
                    )
            offsets[partition] = OffsetAndMetadata(records[-1].offset + 1, "", -1)
            done += len(records)
        producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        producer.commit_transaction()
    took = time.perf_counter() - began
    consumer.close()
    producer.close()
    return took
