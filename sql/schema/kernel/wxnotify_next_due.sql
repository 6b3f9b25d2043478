-- When something must next happen to a row that waits for nothing but its time.
create or replace function wxnotify_next_due(p_held boolean, p_send_at timestamptz, p_expire_at timestamptz) returns timestamptz
language sql volatile
return least(case when p_held then 'infinity' else greatest(p_send_at, clock_timestamp()) end, p_expire_at);

comment on function wxnotify_next_due is 'When something must next happen to a row that waits for nothing but its time.';

grant execute on function wxnotify_next_due to wxnotify_worker;
