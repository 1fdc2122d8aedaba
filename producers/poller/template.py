"""A mapping file for an event type, to be filled in: every field with its meaning, the required ones first."""

from __future__ import annotations

from schemas.contracts import EventContract, Schema

_HEAD = """\
# {title}：{type}
# 填上连接、查询与各字段的列名，然后试运行 (fill in, then try): hongyan poller run FILE --dry-run
name: my-table            # 每个映射各不相同，定了就不再改 (one for each mapping, for good)
# url: postgresql://reader:…@db.example/approval   # 或 (or) HONGYAN_POLLER__DSN
source: urn:sc:my-department
type: {type}
query: SELECT * FROM my_table
key: [id]                 # 唯一标识一行的列 (what identifies a row)
cursor:
  column: updated_at      # 每次改动都增大的列 (grows with every change)
  overlap: 600            # 秒 (seconds)
time_zone: Asia/Shanghai  # 没有时区的时间按此读 (of times without a zone)

fields:
"""


def template(contract: EventContract) -> str:
    """Return the file's text."""
    fields = [f for f in contract.fields() if "derived" not in f]
    needed = [f for f in fields if "default" not in f]
    optional = [f for f in fields if "default" in f]
    head = _HEAD.format(title=contract.catalogue.title_zh, type=contract.type)
    lines = [f"  {f['name']}: {f['name']}  # {_meaning(f)}" for f in needed]
    lines += [f"  # {f['name']}: {f['name']}  # {_meaning(f)}" for f in optional]
    return head + "\n".join(lines) + "\n"


def _meaning(field: Schema) -> str:
    return " ".join(str(field["doc"]).split())
