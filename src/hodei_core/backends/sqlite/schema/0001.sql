-- Schema 1. Instants are microseconds since 1970-01-01 UTC; states are as in JobState, WorkerState.

create table meta (
    name text primary key,
    value text not null
) without rowid;

create table needs (
    id integer primary key,
    content text not null unique -- JSON
);

-- A job as it is now. What never changes of it and may be large is in specs.
create table jobs (
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
create index jobs_queue on jobs (needs, priority desc, seq) where queued = 1;
create index jobs_overdue on jobs (due_at, seq) where queued = 1;
create index jobs_later on jobs (due_at, seq) where queued = 2;
create index jobs_expiring on jobs (expires_at, seq) where expires_at is not null;
create index jobs_live on jobs (seq) where finished_at is null;
create index jobs_held on jobs (worker, seq) where worker is not null;
create index jobs_final on jobs (state, seq) where finished_at is not null;
create index jobs_finished on jobs (state, finished_at) where finished_at is not null;
create index jobs_named on jobs (name, seq) where name is not null;
create index jobs_cancelled on jobs (seq) where cancel_at is not null;

create table specs (
    seq integer primary key references jobs (seq),
    content text not null, -- JSON: the fields that are not at their default
    stdin blob
);

create table labels (
    name text not null,
    value text not null,
    seq integer not null references jobs (seq),
    primary key (name, value, seq)
) without rowid;
create index labels_of on labels (seq);

create table keys (
    key text primary key,
    seq integer not null references jobs (seq)
) without rowid;
create index keys_of on keys (seq);

create table counts (
    state text primary key,
    jobs integer not null
) without rowid;

create table totals (
    name text primary key,
    bytes integer not null
) without rowid;
insert into totals values ('logs', 0);

create table workers (
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

create table hosts (
    seq integer primary key autoincrement,
    id text not null unique,
    beat integer not null,
    offers text not null -- JSON
);

create table logs (
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
create unique index logs_of on logs (job, first_seq);

create table log_bounds (
    job integer primary key references jobs (seq),
    last integer not null,
    lost integer not null default 0,
    lost_attempt integer not null default 0,
    bytes integer not null default 0
);

-- What was done to jobs, for those who follow the file. The oldest go.
create table events (
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
