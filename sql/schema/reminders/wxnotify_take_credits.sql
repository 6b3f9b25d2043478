-- Part of the start: the credits that rows take, all of them locked by the caller, end; notification_redrives says which row each became.
create or replace function wxnotify_take_credits(p_appid text, p_ids bigint[], p_verdicts text[], p_credits bigint[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_rows    bigint[];
    v_credits bigint[];
begin
    select array_agg(u.id), array_agg(u.credit) into v_rows, v_credits
    from unnest(p_ids, p_verdicts, p_credits) u (id, verdict, credit) where u.verdict = 'go' and u.credit is not null;
    if v_rows is null then
        return;
    end if;
    perform wxnotify_finish(p_appid, v_credits, array_fill('cancelled'::text, array[cardinality(v_credits)]), 'policy', null, null,
        array(select 'spent by notification ' || r from unnest(v_rows) r));
    insert into notification_redrives (redriven_id, new_id, appid, actor)
    select u.credit, u.id, p_appid, 'reminder' from unnest(v_credits, v_rows) u (credit, id);
end $$;

comment on function wxnotify_take_credits is 'Part of the start: rows of reminders take their credits.';

grant execute on function wxnotify_take_credits to wxnotify_worker;
