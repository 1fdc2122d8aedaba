"""Every metric, typed in one place. Collectors and ``docs/reference/metrics.md`` are made from what stands here:

``python -m services.runtime.metrics_page docs/reference/metrics.md``.
"""

from __future__ import annotations

from services.runtime.measuring import CounterSpec, GaugeSpec, HistogramSpec, Spec

GATEWAY, PORTAL, FEEDS, REGISTRY, MONITOR = ("gateway",), ("portal",), ("feeds",), ("registry",), ("monitor",)
ROUTER, PUSHER, STATISTICS, LEDGER, ALERTER = ("router",), ("pusher",), ("statistics",), ("ledger",), ("alerter",)
RELAY, POLLER, DROP, TABLE_SINK = ("relay",), ("poller",), ("drop",), ("table-sink",)
HTTP = (*GATEWAY, *PORTAL, *FEEDS, *REGISTRY, *MONITOR)
FOLLOWING = (*GATEWAY, *ROUTER, *PUSHER)
TRACED = (*GATEWAY, *ROUTER, *PUSHER, *RELAY, *POLLER, *DROP)
EVERY = (*HTTP, *ROUTER, *PUSHER, *STATISTICS, *LEDGER, *ALERTER, *RELAY, *POLLER, *DROP, *TABLE_SINK)
CLIENT = ("client",)
"""The Python client, in the process of whoever publishes with it."""

# -- every process ------------------------------------------------------------------------------------------------

BUILD_INFO = GaugeSpec(
    "hongyan_build_info", "恒为 1；标签是版本", "always 1; the labels say which", EVERY, ("version", "python")
)
WORKING = GaugeSpec(
    "hongyan_working", "能做自己的工作时为 1，同 /health", "1 while the process does its work, as /health says", EVERY
)
INTERRUPTIONS = CounterSpec(
    "hongyan_interruptions_total",
    "所依赖的服务不可用、等它恢复的次数；what 是哪段工作",
    "outages of what it depends on that were waited for, by the work that they interrupted",
    EVERY,
    ("what",),
)
KAFKA_CLIENTS = GaugeSpec("hongyan_kafka_clients", "打开着的 Kafka 客户端", "open Kafka clients", EVERY, ("kind",))
KAFKA_CONSUMED = CounterSpec(
    "hongyan_kafka_consumed_records_total", "从 Kafka 读到的记录", "records read from Kafka", EVERY, ("client",)
)
KAFKA_POLLED = GaugeSpec(
    "hongyan_kafka_polled_timestamp_seconds",
    "最近一次轮询 Kafka 的时刻；不再前进即消费的循环停住",
    "when a consumer last polled; one that stands still has stopped its loop",
    EVERY,
    ("client",),
    "timestamp",
)
KAFKA_ASSIGNED = GaugeSpec(
    "hongyan_kafka_assigned_partitions", "正在读的分区", "partitions that are read now", EVERY, ("client",)
)
KAFKA_PRODUCED = CounterSpec(
    "hongyan_kafka_produced_records_total", "交给 Kafka 的记录", "records handed to Kafka", EVERY, ("client",)
)
KAFKA_FAILED = CounterSpec(
    "hongyan_kafka_errors_total",
    "Kafka 客户端报的错误；operation 是哪个调用",
    "errors of Kafka clients, by the call that had them",
    EVERY,
    ("operation",),
)

TRACE_SPANS = CounterSpec(
    "hongyan_trace_spans_total",
    "链路跨度：exported 已送出、failed 收集器没收、dropped 队列满而丢弃",
    "spans by what became of them",
    TRACED,
    ("outcome",),
)
PROCESS_CPU = CounterSpec(
    "process_cpu_seconds_total", "用去的处理器时间", "processor time that was used", EVERY, unit="seconds"
)
PROCESS_RESIDENT = GaugeSpec("process_resident_memory_bytes", "常驻内存", "resident memory", EVERY, unit="bytes")
PROCESS_VIRTUAL = GaugeSpec("process_virtual_memory_bytes", "虚拟内存", "virtual memory", EVERY, unit="bytes")
PROCESS_STARTED = GaugeSpec("process_start_time_seconds", "启动时刻", "when it started", EVERY, unit="seconds")
PROCESS_FDS = GaugeSpec("process_open_fds", "打开的文件描述符", "open file descriptors", EVERY)
PROCESS_MAX_FDS = GaugeSpec("process_max_fds", "文件描述符上限", "most file descriptors that may be open", EVERY)

# -- processes that serve HTTP ------------------------------------------------------------------------------------

HTTP_REQUESTS = CounterSpec(
    "hongyan_http_requests_total",
    "应答的请求；route 是路由模板，没有对应路由的为 (none)",
    "answered requests; route is the route's template, (none) where there is none",
    HTTP,
    ("method", "route", "status"),
)
HTTP_SECONDS = HistogramSpec(
    "hongyan_http_request_seconds",
    "从收到请求到开始应答（长轮询含等待，流只算到开头）",
    "from a request to the beginning of its answer; a long poll's wait is in it, a stream's length is not",
    HTTP,
    ("method", "route"),
    "seconds",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)

# -- ways in ------------------------------------------------------------------------------------------------------

GATEWAY_EVENTS = CounterSpec("hongyan_gateway_events_total", "受理的事件", "accepted events", GATEWAY, ("type",))
GATEWAY_REFUSED = CounterSpec(
    "hongyan_gateway_refused_events_total",
    "拒收的事件，按单独发送时的 HTTP 状态；503 可原样重发",
    "refused events, by the HTTP status that each would have had alone; 503 may be sent again",
    GATEWAY,
    ("status",),
)
GATEWAY_SECONDS = HistogramSpec(
    "hongyan_gateway_publish_seconds",
    "发布请求从收到到 Kafka 确认",
    "from a publishing request to Kafka's acknowledgement",
    GATEWAY,
    unit="seconds",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
GATEWAY_UNDER_WAY = GaugeSpec(
    "hongyan_gateway_open_requests", "处理中或排队的请求", "requests under way or waiting for their turn", GATEWAY
)
RELAY_ROWS = CounterSpec(
    "hongyan_relay_rows_total", "发件箱的行：sent 已发、rejected 拒收", "rows by outcome", RELAY, ("outcome",)
)
RELAY_BATCHES = CounterSpec("hongyan_relay_batches_total", "提交的事务", "committed transactions", RELAY)
RELAY_WORKING = GaugeSpec(
    "hongyan_relay_working", "持有发件箱的锁且所需俱在时为 1", "1 while it has the table's lock and all it needs", RELAY
)
POLLER_ROWS = CounterSpec(
    "hongyan_poller_rows_total",
    "读到的行：new、changed、deleted、unchanged、ignored、rejected",
    "rows that were read, by outcome",
    POLLER,
    ("outcome",),
)
POLLER_WORKING = GaugeSpec(
    "hongyan_poller_working", "持有锁且所需俱在时为 1", "1 while it has the lock and all it needs", POLLER
)
POLLER_REJECTS = GaugeSpec("hongyan_poller_rejects", "现在被拒的行", "rows that are rejected now", POLLER)
POLLER_WITHHELD = GaugeSpec(
    "hongyan_poller_withheld_deletions", "扣住未发布的删除", "rows that are gone, but more than the limit", POLLER
)
POLLER_LOOKED = GaugeSpec(
    "hongyan_poller_looked_timestamp_seconds",
    "最近一次看完整张表的时刻",
    "when the last look at the table ended",
    POLLER,
    unit="timestamp",
)
DROP_FILES = CounterSpec("hongyan_drop_files_total", "处理完的文件", "files by outcome", DROP, ("outcome",))
DROP_ROWS = CounterSpec(
    "hongyan_drop_rows_total", "行：accepted、rejected、conflicting", "rows by outcome", DROP, ("outcome",)
)
DROP_WAITING = GaugeSpec("hongyan_drop_waiting_files", "in/ 里等着的文件", "files in in/", DROP)
CLIENT_EVENTS = CounterSpec(
    "hongyan_client_events_total",
    "发出的事件：published、failed",
    "events that were sent, by outcome",
    CLIENT,
    ("outcome",),
)
CLIENT_BUFFERED = GaugeSpec(
    "hongyan_client_buffered_events", "等待 Kafka 确认的事件", "events that wait for Kafka", CLIENT
)

# -- routing and delivery -----------------------------------------------------------------------------------------

ROUTER_EVENTS = CounterSpec(
    "hongyan_router_events_total",
    "路由过的事件：routed、duplicate、conflict、deadletter",
    "input events by verdict",
    ROUTER,
    ("verdict",),
)
ROUTER_BATCHES = CounterSpec("hongyan_router_batches_total", "提交的事务", "committed transactions", ROUTER)
ROUTER_FILTER_ERRORS = CounterSpec(
    "hongyan_router_filter_errors_total",
    "订阅的过滤条件在多少事件上求值失败，因此不匹配",
    "events on which a subscription's filter could not be evaluated, and so did not match",
    ROUTER,
    ("subscription",),
)
DELIVERIES = CounterSpec(
    "hongyan_deliveries_total", "了结的投递：delivered、parked", "deliveries that ended", PUSHER, ("agency", "outcome")
)
DELIVERY_ATTEMPTS = CounterSpec(
    "hongyan_delivery_attempts_total", "投递请求的次数", "attempts that were made", PUSHER, ("agency",)
)
DELIVERY_SECONDS = HistogramSpec(
    "hongyan_delivery_seconds",
    "从发布到接收方答 2xx",
    "from publication to 2xx",
    PUSHER,
    ("agency",),
    "seconds",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
LINE_HELD = GaugeSpec(
    "hongyan_line_held", "该单位的线被保持时为 1", "1 while an agency's line is held", PUSHER, ("agency",)
)
LINES = GaugeSpec("hongyan_lines", "本进程投递的队列", "feeds that this process delivers", PUSHER)
ALERTS = CounterSpec(
    "hongyan_alerts_total", "提出与关闭的告警", "alerts raised and closed", PUSHER, ("agency", "kind", "state")
)
FEEDS_OPEN = GaugeSpec(
    "hongyan_feeds_open_requests", "打开着的请求与流", "requests and streams of agencies that are open", FEEDS
)
FEEDS_IN_MEMORY = GaugeSpec(
    "hongyan_feeds_in_memory", "最新事件在内存里的队列", "feeds whose newest events are in memory", FEEDS
)
FEEDS_BYTES = GaugeSpec("hongyan_feeds_memory_bytes", "队列占的内存", "memory that feeds take", FEEDS, unit="bytes")
CONTROL_OFFSET = GaugeSpec(
    "hongyan_control_offset",
    "控制主题已读到的偏移：配置变更是否生效",
    "next offset of a control topic that is taken in",
    FOLLOWING,
    ("topic",),
)

# -- telling people -----------------------------------------------------------------------------------------------

ALERTS_OPEN = GaugeSpec("hongyan_alerts_open", "未关闭的问题", "troubles that are open", ALERTER, ("kind", "severity"))
PARKED_EVENTS = GaugeSpec(
    "hongyan_parked_events",
    "停放着、还没有放回的事件",
    "events that are parked and were not put back yet",
    ALERTER,
    ("agency",),
)
OPEN_DEAD_LETTERS = GaugeSpec(
    "hongyan_open_dead_letters", "未更正的死信", "dead letters that nobody has corrected", ALERTER, ("stage",)
)
ALERT_MESSAGES = CounterSpec(
    "hongyan_alert_messages_total",
    "发给人的告警消息：way 是 mail、webhook 或 feed，outcome 是 sent 或 failed",
    "messages to people, by way and outcome; one that failed is tried again",
    ALERTER,
    ("way", "outcome"),
)
ALERTER_UNWRITTEN = GaugeSpec(
    "hongyan_alerter_unwritten_records", "等 Kafka 恢复后写入的记录", "records that wait for Kafka", ALERTER
)

# -- what is kept -------------------------------------------------------------------------------------------------

STATISTICS_FACTS = CounterSpec("hongyan_statistics_facts_total", "入库的事实", "facts added", STATISTICS)
STATISTICS_REPEATED = CounterSpec(
    "hongyan_statistics_repeated_total", "已经计过的事件", "events that were counted already", STATISTICS
)
STATISTICS_CONFLICTS = CounterSpec(
    "hongyan_statistics_conflicts_total",
    "已经计过、内容却不同的事件",
    "events counted already with other content",
    STATISTICS,
)
STATISTICS_LOST = GaugeSpec(
    "hongyan_statistics_lost_months",
    "已关账而日志里已数不出的月份",
    "closed months whose facts can't be counted from the log any more",
    STATISTICS,
)
STATISTICS_ASIDE = CounterSpec(
    "hongyan_statistics_deadletters_total", "放入死信的记录", "records put aside", STATISTICS
)
LEDGER_ROWS = CounterSpec("hongyan_ledger_rows_total", "入台账的行", "rows added", LEDGER)
LEDGER_ASIDE = CounterSpec("hongyan_ledger_deadletters_total", "放入死信的记录", "records put aside", LEDGER)
REGISTRY_READY = GaugeSpec(
    "hongyan_registry_ready", "日志读到末尾后为 1", "1 once the log has been read to its end", REGISTRY
)
REGISTRY_WRITABLE = GaugeSpec(
    "hongyan_registry_writable", "日志可写时为 1", "1 while the log can be appended to", REGISTRY
)
REGISTRY_ENTRIES = GaugeSpec(
    "hongyan_registry_entries", "已读入的日志条目", "entries of the log that are folded", REGISTRY
)

# -- how far behind everybody is ----------------------------------------------------------------------------------

OLDEST_UNDELIVERED = GaugeSpec(
    "hongyan_oldest_undelivered_seconds",
    "最早的未达事件自发布起的时长",
    "age of the oldest undelivered event, from its publication",
    MONITOR,
    ("agency",),
    "seconds",
)
BACKLOG = GaugeSpec("hongyan_backlog_events", "未达的事件", "undelivered events", MONITOR, ("agency",))
FEED_HELD = GaugeSpec("hongyan_feed_held", "该单位的队列被保持时为 1", "1 while the feed is held", MONITOR, ("agency",))
AGENCY_STATE = GaugeSpec(
    "hongyan_agency_state",
    "单位所处的状态为 1：ok、catching-up、slow、stalled、stopped、rewound、held、parked、unknown",
    "1 for the state that an agency's delivery is in",
    MONITOR,
    ("agency", "state"),
)
OVERDUE = GaugeSpec(
    "hongyan_overdue_events",
    "已过法定时限的未达事件",
    "undelivered events whose legal limit has passed",
    MONITOR,
    ("agency",),
)
DEADLINE_MET = GaugeSpec(
    "hongyan_deadline_met_ratio",
    "至多一天内，在法定时限内送达的比例",
    "share that was taken within the legal limit, over a day at most",
    MONITOR,
    ("agency",),
)
TAKEN = CounterSpec(
    "hongyan_taken_events_total", "单位已取得的事件", "events that an agency took", MONITOR, ("agency",)
)
SLOW = CounterSpec(
    "hongyan_slow_events_total",
    "其中慢于目标（monitor.objective_s）的",
    "of these, those slower than the objective",
    MONITOR,
    ("agency",),
)
DELIVERY_LATENCY = GaugeSpec(
    "hongyan_delivery_latency_seconds",
    "最近十五分钟从发布到送达的分位数",
    "from publication to delivery in the last fifteen minutes, by quantile",
    MONITOR,
    ("agency", "quantile"),
    "seconds",
)
CHANNEL_LATENCY = GaugeSpec(
    "hongyan_channel_latency_seconds",
    "同上，按渠道",
    "the same, by channel",
    MONITOR,
    ("agency", "channel", "quantile"),
    "seconds",
)
ACKNOWLEDGEMENT_LATENCY = GaugeSpec(
    "hongyan_acknowledgement_latency_seconds",
    "从事件自己的时间到业务回执的分位数",
    "from the event's own time to the business receipt, by quantile",
    MONITOR,
    ("agency", "channel", "quantile"),
    "seconds",
)
GROUP_LAG = GaugeSpec(
    "hongyan_group_lag_records",
    "消费组落后的记录",
    "records that a consumer group is behind",
    MONITOR,
    ("group", "topic"),
)
GROUP_DELAY = GaugeSpec(
    "hongyan_group_delay_seconds",
    "消费组落后的时长",
    "how long a consumer group is behind",
    MONITOR,
    ("group", "topic"),
    "seconds",
)
GROUP_STATE = GaugeSpec(
    "hongyan_group_state",
    "消费组在该主题上所处的状态为 1，状态同 hongyan_agency_state",
    "1 for the state that a group is in on a topic",
    MONITOR,
    ("group", "topic", "state"),
)
PROBE_STATE = GaugeSpec(
    "hongyan_probe_state",
    "端到端探测所处的状态为 1：starting、ok、late、lost、refused",
    "1 for the state that the end-to-end probe is in",
    MONITOR,
    ("state",),
)
PROBE_LATENCY = GaugeSpec(
    "hongyan_probe_latency_seconds",
    "探测事件从调用到签名投递的分位数",
    "the probe's way from the call to the signed delivery, by quantile",
    MONITOR,
    ("quantile",),
    "seconds",
)
GATEWAY_CLOCK = GaugeSpec(
    "hongyan_gateway_clock_ahead_seconds",
    "网关的时钟比监视进程快多少",
    "how far the gateway's clock is ahead of the monitor's",
    MONITOR,
    unit="seconds",
)
PUBLISHER_CLOCK = GaugeSpec(
    "hongyan_publisher_clock_skew_seconds",
    "发布方时钟不可能对的偏差",
    "a publisher's clock that can't be right",
    MONITOR,
    ("source", "direction"),
    "seconds",
)
MONITOR_SECONDS = GaugeSpec(
    "hongyan_monitor_look_seconds", "最近看一遍用时", "what the last look at everyone took", MONITOR, unit="seconds"
)
MONITOR_UNREADABLE = CounterSpec(
    "hongyan_monitor_unreadable_records_total",
    "时间无法读取的记录",
    "records whose times could not be read",
    MONITOR,
)

ALL: tuple[Spec, ...] = tuple(spec for spec in list(vars().values()) if isinstance(spec, Spec))
"""Every metric, in the order in which it stands above."""
