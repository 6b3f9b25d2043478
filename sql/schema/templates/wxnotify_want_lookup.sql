-- p_gap_secs keeps the question from being asked again and again: these calls have quotas of their own.
create or replace function wxnotify_want_lookup(p_appid text, p_lookup text, p_gap_secs double precision) returns void
language sql volatile security definer set search_path from current as $$
    update wechat_lookups w
    set due_at = greatest(clock_timestamp(), greatest(w.done_at, w.failed_at) + p_gap_secs * interval '1 second')
    where w.appid = p_appid and w.lookup = p_lookup and w.errcode is distinct from 45009
      and w.due_at > greatest(clock_timestamp(), greatest(w.done_at, w.failed_at) + p_gap_secs * interval '1 second')
$$;

comment on function wxnotify_want_lookup is 'Brings a question forward: now, or so many seconds after it was last asked; not when its own quota is used up.';

grant execute on function wxnotify_want_lookup to wxnotify_operator, wxnotify_worker;
