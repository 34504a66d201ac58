-- Views and triggers: made anew whenever the version of the store changes. A change here is a
-- new version, too: an empty step in store_schema.c.

-- How bytes are written for people: the first row whose `least` is not above them.
create view size_unit (least, divisor, pattern) as
    values (1073741824, 1073741824.0, '%.2f GiB'), (1048576, 1048576.0, '%.1f MiB'),
           (1024, 1024.0, '%.0f KiB'), (-9223372036854775808, 1.0, '%.0f B');

-- What each device of a plan holds, as text: 'embed, blocks 0-9, streamed blocks 10-29, head'.
create view plan_holding (plan, device, position, holds) as
with
    -- one row a device and unit
    held (plan, device, unit, slot, is_part, is_streamed) as (
        select s.plan, s.device, s.unit,
               case s.unit when 0 then -1 when p.unit_count - 1 then -2 else (s.unit - 1) / 2 end,
               exists (select 1 from shard t
                       where t.plan = s.plan and t.unit = s.unit and t.device <> s.device),
               max(s.residency = 'streamed')
        from shard s join plan p on p.id = s.plan group by s.plan, s.device, s.unit),
    -- one row a device and block: a whole one, a half, or parts
    placed (plan, device, unit, block, kind) as (
        select plan, device, min(unit), slot,
               case when is_streamed then 'streamed ' else '' end
               || case when max(is_part) then 'part of ' else '' end
               || case when slot = -1 then 'embed' when slot = -2 then 'head'
                       when count(*) = 2 then 'block' when min(unit) % 2 then 'attn' else 'ffn' end
        from held group by plan, device, slot, is_streamed),
    -- neighbouring blocks of a kind share `island`
    grouped (plan, device, unit, block, kind, island) as (
        select *, block - row_number() over (partition by plan, device, kind order by block) from placed),
    ranges (plan, device, unit, text) as (
        select plan, device, min(unit),
               case when max(block) < 0 then kind
                    when min(block) = max(block) then kind || ' ' || min(block)
                    when kind like '%block' then kind || 's ' || min(block) || '-' || max(block)
                    else kind || ' ' || min(block) || '-' || max(block) end
        from grouped group by plan, device, kind, island)
select d.plan, d.device, d.position,
       (select group_concat(text, ', ')
        from (select text from ranges r where r.plan = d.plan and r.device = d.device order by r.unit))
from plan_device d;

-- Every plan, also those that a newer one replaced.
create view plan_history as
select p.id, p.name, p.model_name as model,
       (select printf(pattern, p.model_weight_bytes / divisor) from size_unit
        where p.model_weight_bytes >= least limit 1) as size,
       (select group_concat(device || ': ' || holds, '; ')
        from (select * from plan_holding h where h.plan = p.id and holds is not null
              order by position)) as devices,
       p.context,
       round(p.predicted_prefill_tokens_per_s, 1) as prefill_tok_s,
       round(p.predicted_decode_tokens_per_s, 1) as decode_tok_s,
       p.created, coalesce(p.edited_at, '') as edited, coalesce(p.superseded_at, '') as superseded
from plan p order by p.id;

-- A row a plan: those that phirun finds.
create view plan_overview as
select id, name, model, size, devices, context, prefill_tok_s, decode_tok_s, created, edited
from plan_history where superseded = '';

-- A row a unit (several where it is cut into slices).
create view plan_layers as
select s.plan, s.unit, s.unit_name as name, s.device,
       case when count(*) over (partition by s.plan, s.unit) = 1 then 'all'
            else s.part_begin || '-' || (s.part_end - 1) end as parts,
       s.format,
       (select printf(pattern, s.weight_bytes / divisor) from size_unit
        where s.weight_bytes >= least limit 1) as weights,
       (select printf(pattern, s.kv_bytes / divisor) from size_unit
        where s.kv_bytes >= least limit 1) as kv,
       s.residency
from shard s order by s.plan, s.unit, s.part_begin;

-- A row a device, with the best bandwidth that its present driver has shown.
create view device_overview as
select d.short_name as device, d.type, d.name, d.platform,
       (select printf(pattern, d.memory_bytes / divisor) from size_unit
        where d.memory_bytes >= least limit 1) as memory,
       d.compute_units,
       (select printf('%.1f GB/s', max(value) / 1e9) from probe
        where device = d.id and driver = d.driver and what = 'decode' and unit = 'B/s'
        having count(*) > 0) as decode_bandwidth,
       d.driver,
       case when not d.usable then 'unusable: ' || d.reason
            when d.alias_of <> '' then 'alias of ' || d.alias_of else 'usable' end as state,
       d.last_seen
from device d
order by case d.type when 'gpu' then 0 when 'igpu' then 1 when 'cpu' then 2 else 3 end, d.identity;

-- Prediction against reality, a row a run. Decode is compared at the middle of the
-- run's own tokens (a bench times all of them, a generation all but the first); an error of 0.10 means: 10 % faster than predicted.
create view prediction_error as
select r.id as run, r.plan, p.name, p.model_name as model, r.kind,
       r.prompt_tokens, r.new_tokens,
       round(p.predicted_prefill_tokens_per_s, 2) as prefill_predicted,
       round(r.prompt_tokens / nullif(r.prefill_s, 0), 2) as prefill_measured,
       round(r.prompt_tokens / nullif(r.prefill_s, 0)
             / nullif(p.predicted_prefill_tokens_per_s, 0) - 1, 3) as prefill_error,
       round(1 / e.token_s, 2) as decode_predicted,
       round(e.measured, 2) as decode_measured,
       round(e.measured * e.token_s - 1, 3) as decode_error,
       round(p.predicted_first_token_s, 3) as first_token_predicted,
       round(r.first_token_s, 3) as first_token_measured,
       r.ended
from run r join plan p on p.id = r.plan
join (select r.id as run,
             case when r.kind = 'bench' and r.new_tokens > 0 then r.new_tokens / nullif(r.decode_s, 0)
                  when r.new_tokens > 1 then (r.new_tokens - 1) / nullif(r.decode_s, 0) end as measured,
             nullif(1 / p.predicted_decode_tokens_per_s
                    + (1 / coalesce(nullif(p.predicted_decode_tokens_per_s_end, 0),
                                    p.predicted_decode_tokens_per_s)
                       - 1 / p.predicted_decode_tokens_per_s)
                      * min(1.0, (r.prompt_tokens + r.new_tokens / 2.0) / max(p.context, 1)), 0) as token_s
      from run r join plan p on p.id = r.plan) e on e.run = r.id
order by r.id;

-- Moving a shard by SQL: only to a device of the plan (foreign keys are off in a
-- plain sqlite3 shell), and the sums of both devices follow.
create trigger shard_device_known before update of device on shard
when not exists (select 1 from plan_device where plan = new.plan and device = new.device)
begin
    select raise(abort, 'the plan has no such device; see: select plan, device from plan_device');
end;

create trigger shard_moved after update of device on shard when old.device <> new.device
begin
    update plan_device set weight_bytes = max(0, weight_bytes - old.weight_bytes),
                           kv_bytes = max(0, kv_bytes - old.kv_bytes)
    where plan = old.plan and device = old.device;
    update plan_device set weight_bytes = weight_bytes + new.weight_bytes,
                           kv_bytes = kv_bytes + new.kv_bytes, empty_reason = ''
    where plan = new.plan and device = new.device;
    update plan set edited_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now') where id = new.plan;
end;
