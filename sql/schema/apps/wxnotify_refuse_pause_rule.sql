create or replace function wxnotify_refuse_pause_rule(p_rule text) returns timestamptz
language plpgsql immutable set search_path from current as $$
begin
    raise exception 'pause rule "%" is not known: use operator, china_midnight or next_minute', p_rule using errcode = '22023';
end $$;

comment on function wxnotify_refuse_pause_rule is 'Raises: the pause rule is not known.';

grant execute on function wxnotify_refuse_pause_rule to wxnotify_worker;
