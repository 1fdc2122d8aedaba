-- 鸿雁发件箱 (Hongyan outbox) · MySQL 8.0.13+, MariaDB 10.6+，InnoDB
-- 在业务系统自己的库里运行一次 (run once, in the approval system's own schema).

CREATE TABLE hongyan_outbox (
    -- Debezium outbox event router 默认的五列 (its five default columns)
    id            varchar(255) NOT NULL DEFAULT (uuid()), -- 事件 id，可自行给出
    aggregatetype varchar(255) NOT NULL,                -- 领域，例 health
    aggregateid   varchar(255) NOT NULL,                -- 业务主键，例 证明编号、办件编号
    type          varchar(255) NOT NULL,                -- 事件类型，例 cn.gov.sc.window.case.accepted
    payload       json         NOT NULL,                -- 事件数据
    -- CloudEvents 属性，可不填 (optional attributes)
    source        varchar(255),                         -- 不填即 relay.source；填则须与其相同
    time          varchar(64),                          -- RFC 3339；不填则取数据里的时间字段
    follows       varchar(255),                         -- 所更正、撤销的事件的 id
    division      varchar(12),                          -- 行政区划代码；不填则取数据里的
    traceparent   varchar(64),                          -- W3C Trace Context：办结时所在的链路
    tracestate    varchar(512),
    -- 转发的状态，业务系统不必写 (the relay's; never written by the application)
    position      bigint       NOT NULL AUTO_INCREMENT,
    state         varchar(8)   NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'sent', 'rejected')),
    reason        text,                                 -- 拒收原因
    settled_at    datetime(6),
    PRIMARY KEY (position),
    UNIQUE KEY hongyan_outbox_id (id),
    KEY hongyan_outbox_new (state, position)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- 同一业务主键的事务在此排队：行锁到事务结束才放行；位置号在锁内取得，因此按位置读就是按提交先后读。
-- (Transactions of one key queue here: the row lock is held to the transaction's end. The position is taken under it,
-- so per key the order of positions is the order of commits.)
-- 一条 INSERT 只写一行：多行的 INSERT 在第一行就取走全部位置号，早于后面各行的锁。
-- (One row an INSERT: one of several rows takes all its positions with the first, before the locks of the others.)
CREATE TABLE hongyan_outbox_lock (
    aggregateid varchar(255) NOT NULL PRIMARY KEY,
    uses        bigint       NOT NULL DEFAULT 1
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- 没有 TRIGGER 权限时可省去，那时须由业务系统自己先锁住办件行（见文档）。
-- (May be left out where the right is missing: then the application must lock its own row of the case first.)
CREATE TRIGGER hongyan_outbox_order BEFORE INSERT ON hongyan_outbox FOR EACH ROW
    INSERT INTO hongyan_outbox_lock (aggregateid) VALUES (NEW.aggregateid)
    ON DUPLICATE KEY UPDATE uses = uses + 1;
