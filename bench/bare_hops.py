"""The bare two-hop loop: kafka-python from topic to feed exactly once, then from feed to an aiohttp post. No more.

Run as ``python -m bench.bare_hops router ADDRESS SOURCE FEED`` or ``pusher ADDRESS FEED[,FEED…] URL``.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata


def route(address: str, source: str, feed: str) -> None:
    """Copy every record from source to feed, each poll in one transaction."""
    producer = KafkaProducer(
        bootstrap_servers=address, transactional_id=f"bare-{feed}", retry_backoff_ms=5, batch_size=131_072
    )
    producer.init_transactions()
    consumer = KafkaConsumer(
        source,
        bootstrap_servers=address,
        group_id=f"bare-{feed}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    producer.partitions_for(feed)
    while True:
        found = consumer.poll(200)
        if not found:
            continue
        producer.begin_transaction()
        for records in found.values():
            for record in records:
                producer.send(feed, key=record.key, value=record.value, headers=record.headers, partition=0)
        offsets = {tp: OffsetAndMetadata(records[-1].offset + 1, "", -1) for tp, records in found.items()}
        producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
        producer.commit_transaction()


async def push(address: str, feeds: str, url: str) -> None:
    """Post every record of the feeds."""
    consumer = KafkaConsumer(bootstrap_servers=address, isolation_level="read_committed", auto_offset_reset="earliest")
    consumer.assign([TopicPartition(feed, 0) for feed in feeds.split(",")])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16)) as session:

        async def post(event_id: str, value: bytes) -> None:
            async with session.post(url, data=value, headers={"webhook-id": event_id}) as answer:
                await answer.read()

        while True:
            found = await asyncio.to_thread(consumer.poll, 200)
            posts = [post(dict(r.headers)["ce_id"].decode(), r.value) for records in found.values() for r in records]
            await asyncio.gather(*posts)


if __name__ == "__main__":
    part, bootstrap, *rest = sys.argv[1:]
    if part == "router":
        route(bootstrap, *rest)
    else:
        asyncio.run(push(bootstrap, *rest))
