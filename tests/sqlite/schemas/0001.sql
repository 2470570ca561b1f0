PRAGMA application_id = 1215259749;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE counts (
    state text primary key,
    jobs integer not null
) without rowid;
INSERT INTO "counts" VALUES('assigned',1);
INSERT INTO "counts" VALUES('cancelled',1);
INSERT INTO "counts" VALUES('failed',0);
INSERT INTO "counts" VALUES('pending',5);
INSERT INTO "counts" VALUES('running',1);
INSERT INTO "counts" VALUES('succeeded',1);
INSERT INTO "counts" VALUES('timed_out',0);
CREATE TABLE events (
    id integer primary key,
    writer integer not null, -- which opening of the file did it
    job integer not null,
    version integer not null,
    kind text not null, -- submitted, due, assigned, started, retried or finished
    needs integer, -- in which class the queue changed by it
    at integer not null,
    attempt integer,
    worker text,
    state text,
    reason text,
    exit_code integer,
    due_at integer
);
INSERT INTO "events" VALUES(1,69525044550237302,1,1,'submitted',1,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(2,69525044550237302,2,1,'submitted',2,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(3,69525044550237302,2,2,'assigned',2,1577836801000000,1,'worker',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(4,69525044550237302,2,3,'started',NULL,1577836802000000,1,'worker',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(5,69525044550237302,2,4,'retried',NULL,1577836803000000,1,NULL,NULL,'exit_code',NULL,1577836809000000);
INSERT INTO "events" VALUES(6,69525044550237302,3,1,'submitted',NULL,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(7,69525044550237302,4,1,'submitted',1,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(8,69525044550237302,5,1,'submitted',1,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(9,69525044550237302,5,2,'assigned',1,1577836801000000,1,'worker',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(10,69525044550237302,5,3,'started',NULL,1577836802000000,1,'worker',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(11,69525044550237302,6,1,'submitted',1,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(12,69525044550237302,6,2,'assigned',1,1577836801000000,1,'worker',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(13,69525044550237302,6,3,'started',NULL,1577836802000000,1,'worker',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(14,69525044550237302,6,4,'finished',NULL,1577836803000000,NULL,NULL,'succeeded',NULL,0,NULL);
INSERT INTO "events" VALUES(15,69525044550237302,7,1,'submitted',1,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(16,69525044550237302,7,2,'finished',1,1577836803000000,NULL,NULL,'cancelled','cancelled',NULL,NULL);
INSERT INTO "events" VALUES(17,69525044550237302,8,1,'submitted',1,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(18,69525044550237302,8,2,'assigned',1,1577836801000000,1,'worker',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(19,69525044550237302,9,1,'submitted',1,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE hosts (
    seq integer primary key autoincrement,
    id text not null unique,
    beat integer not null,
    offers text not null -- JSON
);
INSERT INTO "hosts" VALUES(1,'host',4,'[{"provider":"provider","slots":3,"resources":{"cpus":1.0,"memory":null},"labels":{"gpu":"no"},"image":null}]');
CREATE TABLE jobs (
    seq integer primary key autoincrement, -- the order of submission
    id text not null unique,
    state text not null,
    waiting_for text,
    version integer not null,
    needs integer not null references needs (id),
    priority integer not null,
    queued integer, -- 1: eligible; 2: delayed or backing off; null: not pending
    name text,
    submitted_at integer not null,
    due_at integer not null,
    expires_at integer, -- when its pending_timeout passes; null: it has none, or not any more
    started_at integer,
    finished_at integer,
    reason text,
    message text,
    exit_code integer,
    retried_from text,
    attempts text not null default '[]', -- JSON
    returns text, -- JSON
    phases text, -- JSON
    attempt integer, -- the number of the open one
    worker text, -- of the open attempt
    host text, -- of the open attempt
    cancel_at integer, -- when its end was asked for
    cancel_reason text,
    cover_host text, -- which makes a worker for it
    cover_until integer
);
INSERT INTO "jobs" VALUES(1,'plain','pending','capacity',1,1,0,1,NULL,1577836800000000,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'full','pending','backoff',4,2,7,2,'a name',1577836800000000,1577836809000000,NULL,1577836802000000,NULL,NULL,NULL,NULL,NULL,'[{"number":1,"worker":"worker","provider":"provider","assigned_at":1577836801000000,"started_at":1577836802000000,"finished_at":1577836803000000,"reason":"exit_code","exit_code":1}]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'delayed','pending','delay',1,1,0,2,NULL,1577836800000000,1577836860000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(4,'unwanted','pending','capacity',1,1,0,1,NULL,1577836800000000,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL,NULL,1577836800000000,'no more',NULL,NULL);
INSERT INTO "jobs" VALUES(5,'running','running',NULL,3,1,0,NULL,NULL,1577836800000000,1577836800000000,NULL,1577836802000000,NULL,NULL,NULL,NULL,NULL,'[{"number":1,"worker":"worker","provider":"provider","assigned_at":1577836801000000,"started_at":1577836802000000}]',NULL,NULL,1,'worker',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(6,'done','succeeded',NULL,4,1,0,NULL,'a name',1577836800000000,1577836800000000,NULL,1577836802000000,1577836803000000,NULL,NULL,0,NULL,'[{"number":1,"worker":"worker","provider":"provider","assigned_at":1577836801000000,"started_at":1577836802000000,"finished_at":1577836803000000,"exit_code":0}]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(7,'cancelled','cancelled',NULL,2,1,0,NULL,NULL,1577836800000000,1577836800000000,NULL,NULL,1577836803000000,'cancelled',NULL,NULL,NULL,'[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(8,'assigned','assigned',NULL,2,1,0,NULL,NULL,1577836800000000,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[{"number":1,"worker":"worker","provider":"provider","assigned_at":1577836801000000,"host":"host"}]',NULL,NULL,1,'worker','host',NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(9,'again','pending','capacity',1,1,0,1,NULL,1577836800000000,1577836800000000,NULL,NULL,NULL,NULL,NULL,NULL,'done','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE keys (
    key text primary key,
    seq integer not null references jobs (seq)
) without rowid;
INSERT INTO "keys" VALUES('a key',2);
CREATE TABLE labels (
    name text not null,
    value text not null,
    seq integer not null references jobs (seq),
    primary key (name, value, seq)
) without rowid;
INSERT INTO "labels" VALUES('x','y',2);
INSERT INTO "labels" VALUES('ü','ö',2);
CREATE TABLE log_bounds (
    job integer primary key references jobs (seq),
    last integer not null,
    lost integer not null default 0,
    lost_attempt integer not null default 0,
    bytes integer not null default 0
);
INSERT INTO "log_bounds" VALUES(5,3,0,0,10);
INSERT INTO "log_bounds" VALUES(6,1,0,0,5);
CREATE TABLE logs (
    id integer primary key,
    job integer not null references jobs (seq),
    first_seq integer not null,
    last_seq integer not null,
    attempt integer not null,
    at integer not null,
    source text not null,
    partial integer not null,
    data blob not null
);
INSERT INTO "logs" VALUES(1,5,1,2,1,1577836800000000,'stdout',0,X'6F6E650A74776F0A');
INSERT INTO "logs" VALUES(2,5,3,3,1,1577836800000000,'stdout',0,X'FF00');
INSERT INTO "logs" VALUES(3,6,1,1,1,1577836800000000,'stdout',0,X'646F6E650A');
CREATE TABLE meta (
    name text primary key,
    value text not null
) without rowid;
CREATE TABLE needs (
    id integer primary key,
    content text not null unique -- JSON
);
INSERT INTO "needs" VALUES(1,'{"resources":{"cpus":1.0,"memory":null},"image":null,"requires":{},"provider":null,"prefers":null}');
INSERT INTO "needs" VALUES(2,'{"resources":{"cpus":1.0,"memory":null},"image":null,"requires":{"gpu":"yes"},"provider":null,"prefers":"provider"}');
CREATE TABLE specs (
    seq integer primary key references jobs (seq),
    content text not null, -- JSON: the fields that are not at their default
    stdin blob
);
INSERT INTO "specs" VALUES(1,'{"command":"true"}',NULL);
INSERT INTO "specs" VALUES(2,'{"command":["echo","\u00fc","\n","\udcff"],"name":"a name","env":{"A":"b"},"cwd":"/tmp","timeout":1500000,"pending_timeout":2000000,"priority":7,"labels":{"x":"y","\u00fc":"\u00f6"},"requires":{"gpu":"yes"},"prefers":"provider","key":"a key","grace":250000}',X'00FF');
INSERT INTO "specs" VALUES(3,'{"command":"true","delay":60000000}',NULL);
INSERT INTO "specs" VALUES(4,'{"command":"true"}',NULL);
INSERT INTO "specs" VALUES(5,'{"command":"true"}',NULL);
INSERT INTO "specs" VALUES(6,'{"command":"true","name":"a name"}',NULL);
INSERT INTO "specs" VALUES(7,'{"command":"true"}',NULL);
INSERT INTO "specs" VALUES(8,'{"command":"true"}',NULL);
INSERT INTO "specs" VALUES(9,'{"command":"true"}',NULL);
CREATE TABLE totals (
    name text primary key,
    bytes integer not null
) without rowid;
INSERT INTO "totals" VALUES('logs',207);
CREATE TABLE workers (
    seq integer primary key autoincrement,
    id text not null unique,
    provider text not null,
    state text not null,
    slots integer not null,
    slots_used integer not null default 0,
    resources text not null, -- JSON
    labels text not null, -- JSON
    image text,
    ready_at integer,
    idle_since integer,
    host text
);
INSERT INTO "workers" VALUES(1,'worker','provider','ready',9,2,'{"cpus":9.0,"memory":null}','{"a":"b"}',NULL,1577836800000000,1577836803000000,'host');
CREATE INDEX jobs_queue on jobs (needs, priority desc, seq) where queued = 1;
CREATE INDEX jobs_overdue on jobs (due_at, seq) where queued = 1;
CREATE INDEX jobs_later on jobs (due_at, seq) where queued = 2;
CREATE INDEX jobs_expiring on jobs (expires_at, seq) where expires_at is not null;
CREATE INDEX jobs_live on jobs (seq) where finished_at is null;
CREATE INDEX jobs_held on jobs (worker, seq) where worker is not null;
CREATE INDEX jobs_final on jobs (state, seq) where finished_at is not null;
CREATE INDEX jobs_finished on jobs (state, finished_at) where finished_at is not null;
CREATE INDEX jobs_named on jobs (name, seq) where name is not null;
CREATE INDEX jobs_cancelled on jobs (seq) where cancel_at is not null;
CREATE INDEX labels_of on labels (seq);
CREATE INDEX keys_of on keys (seq);
CREATE UNIQUE INDEX logs_of on logs (job, first_seq);
CREATE VIEW job_summary as
select
    j.id,
    coalesce(j.name, '') as name,
    j.state,
    coalesce(j.waiting_for, j.reason, '') as reason,
    j.exit_code,
    json_array_length(j.attempts) as attempts,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.submitted_at / 1e6, 'unixepoch') as submitted_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.started_at / 1e6, 'unixepoch') as started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.finished_at / 1e6, 'unixepoch') as finished_at,
    round((j.finished_at - j.started_at) / 1e6, 3) as duration,
    json_extract(j.attempts, '$[#-1].worker') as worker,
    json_extract(j.attempts, '$[#-1].host') as host,
    coalesce(b.bytes, 0) as log_bytes,
    case json_type(s.content, '$.command')
        when 'text' then json_extract(s.content, '$.command')
        else (
            select group_concat(
                case
                    when value = '' or value glob '*[^-A-Za-z0-9_./:=@%+,]*'
                        then '''' || replace(value, '''', '''"''"''') || ''''
                    else value
                end,
                ' '
            )
            from json_each(s.content, '$.command')
        )
    end as command
from jobs j
join specs s on s.seq = j.seq
left join log_bounds b on b.job = j.seq
order by j.seq desc;
CREATE VIEW attempts as
select
    j.id as job_id,
    coalesce(j.name, '') as name,
    json_extract(a.value, '$.number') as attempt,
    json_extract(a.value, '$.provider') as provider,
    json_extract(a.value, '$.worker') as worker,
    json_extract(a.value, '$.host') as host,
    strftime('%Y-%m-%dT%H:%M:%fZ', json_extract(a.value, '$.assigned_at') / 1e6, 'unixepoch')
        as assigned_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', json_extract(a.value, '$.started_at') / 1e6, 'unixepoch')
        as started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', json_extract(a.value, '$.finished_at') / 1e6, 'unixepoch')
        as finished_at,
    round(
        (json_extract(a.value, '$.finished_at') - json_extract(a.value, '$.started_at')) / 1e6, 3
    ) as duration,
    coalesce(json_extract(a.value, '$.reason'), '') as reason,
    json_extract(a.value, '$.exit_code') as exit_code,
    round(json_extract(a.value, '$.cpu') / 1e6, 3) as cpu,
    json_extract(a.value, '$.max_rss_bytes') as max_rss_bytes
from jobs j, json_each(j.attempts) a
order by j.seq desc, attempt;
CREATE VIEW queue as
select
    j.id as job_id,
    coalesce(j.name, '') as name,
    j.priority,
    j.waiting_for,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.submitted_at / 1e6, 'unixepoch') as submitted_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', j.due_at / 1e6, 'unixepoch') as due_at,
    round((julianday('now') - 2440587.5) * 86400 - j.due_at / 1e6, 3) as overdue,
    json_array_length(j.attempts) as attempts,
    json_extract(n.content, '$.resources.cpus') as cpus,
    json_extract(n.content, '$.resources.memory') as memory_bytes,
    coalesce(json_extract(n.content, '$.provider'), '') as provider,
    coalesce(json_extract(n.content, '$.image'), '') as image,
    json_extract(n.content, '$.requires') as requires
from jobs j
join needs n on n.id = j.needs
where j.queued is not null
order by
    j.queued,
    case j.queued when 1 then -j.priority else j.due_at end,
    j.seq;
CREATE VIEW job_log as
select
    j.id as job_id,
    b.lost_attempt as attempt,
    1 as first_seq,
    b.lost as last_seq,
    null as at,
    'system' as source,
    0 as partial,
    '(' || b.lost || ' entries are no longer stored)' as text
from jobs j
join log_bounds b on b.job = j.seq
where b.lost > 0
union all
select
    j.id,
    l.attempt,
    l.first_seq,
    l.last_seq,
    strftime('%Y-%m-%dT%H:%M:%fZ', l.at / 1e6, 'unixepoch'),
    l.source,
    l.partial,
    rtrim(cast(l.data as text), char(10))
from jobs j
join logs l on l.job = j.seq;
CREATE VIEW worker_summary as
select
    w.id,
    w.provider,
    case
        when w.state not in ('ready', 'busy') then w.state
        when w.slots_used >= w.slots then 'busy'
        else 'ready'
    end as state,
    w.slots_used,
    w.slots,
    json_extract(w.resources, '$.cpus') as cpus,
    json_extract(w.resources, '$.memory') as memory_bytes,
    coalesce(w.image, '') as image,
    w.labels,
    strftime('%Y-%m-%dT%H:%M:%fZ', w.ready_at / 1e6, 'unixepoch') as ready_at,
    case w.slots_used
        when 0 then strftime('%Y-%m-%dT%H:%M:%fZ', w.idle_since / 1e6, 'unixepoch')
    end as idle_since,
    w.host
from workers w
order by w.seq;
CREATE VIEW host_summary as
select
    h.id,
    h.beat,
    (select count(*) from workers w where w.host = h.id) as workers,
    (select coalesce(sum(slots), 0) from workers w where w.host = h.id) as slots,
    (select coalesce(sum(slots_used), 0) from workers w where w.host = h.id) as slots_used,
    (select group_concat(distinct json_extract(o.value, '$.provider')) from json_each(h.offers) o)
        as providers
from hosts h
order by h.seq;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('hosts',1);
INSERT INTO "sqlite_sequence" VALUES('workers',1);
INSERT INTO "sqlite_sequence" VALUES('jobs',9);
COMMIT;
