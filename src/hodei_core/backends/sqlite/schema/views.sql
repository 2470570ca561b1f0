-- The views for people, made anew by each step of the schema: who changes one adds a step, though
-- it may be empty. Instants are ISO 8601 in UTC, spans are seconds.

drop view if exists job_summary;
create view job_summary as
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

drop view if exists attempts;
create view attempts as
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

drop view if exists queue;
create view queue as
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

drop view if exists job_log;
create view job_log as
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

drop view if exists worker_summary;
create view worker_summary as
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

drop view if exists host_summary;
create view host_summary as
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
