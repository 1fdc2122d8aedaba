-- 鸿雁发件箱 (Hongyan outbox) · PostgreSQL 13+
-- 在业务系统自己的库里运行一次 (run once, in the approval system's own schema).

CREATE TABLE hongyan_outbox (
    -- Debezium outbox event router 默认的五列 (its five default columns)
    id            varchar(255) PRIMARY KEY DEFAULT gen_random_uuid()::text, -- 事件 id，可自行给出
    aggregatetype varchar(255) NOT NULL,                -- 领域，例 health
    aggregateid   varchar(255) NOT NULL,                -- 业务主键，例 证明编号、办件编号
    type          varchar(255) NOT NULL,                -- 事件类型，例 cn.gov.sc.window.case.accepted
    payload       jsonb        NOT NULL,                -- 事件数据
    -- CloudEvents 属性，可不填 (optional attributes)
    source        varchar(255),                         -- 不填即 relay.source；填则须与其相同
    time          varchar(64),                          -- RFC 3339；不填则取数据里的时间字段
    follows       varchar(255),                         -- 所更正、撤销的事件的 id
    division      varchar(12),                          -- 行政区划代码；不填则取数据里的
    traceparent   varchar(64),                          -- W3C Trace Context：办结时所在的链路
    tracestate    varchar(512),
    -- 转发的状态，业务系统不必写 (the relay's; never written by the application)
    position      bigint       NOT NULL,
    state         varchar(8)   NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'sent', 'rejected')),
    reason        text,                                 -- 拒收原因
    settled_at    timestamptz
);
CREATE SEQUENCE hongyan_outbox_position OWNED BY hongyan_outbox.position;
CREATE INDEX hongyan_outbox_new ON hongyan_outbox (position) WHERE state = 'new';

-- 同一业务主键的事务在此排队：唯一索引就是锁，事务结束才放行；位置号在锁内取得，
-- 因此按位置读就是按提交先后读。行随即删除，表总是空的。
-- (Transactions of one key queue here: the unique index is the lock, held to the transaction's end. The position is
-- taken under it, so per key the order of positions is the order of commits. The table is always empty.)
CREATE TABLE hongyan_outbox_lock (aggregateid varchar(255) PRIMARY KEY);

CREATE FUNCTION hongyan_outbox_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO hongyan_outbox_lock VALUES (NEW.aggregateid);
    DELETE FROM hongyan_outbox_lock WHERE aggregateid = NEW.aggregateid;
    NEW.position := nextval('hongyan_outbox_position');
    RETURN NEW;
END $$;
CREATE TRIGGER hongyan_outbox_order BEFORE INSERT ON hongyan_outbox
    FOR EACH ROW EXECUTE FUNCTION hongyan_outbox_order();

-- 提交时唤醒转发进程 (wakes the relay at commit; without it the relay polls)
CREATE FUNCTION hongyan_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('hongyan_outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER hongyan_outbox_notify AFTER INSERT ON hongyan_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION hongyan_outbox_notify();
