-- Without a SET, so that it is inlined: leases ask for each row. Whether WeChat can be asked if a send of the row arrived: the state of a service card can be read back, its ext fields
-- cannot. Such a doubt is settled by asking, whatever on_doubt says and however many attempts are left.
create or replace function wxnotify_reads_back(p_kind text, p_extra jsonb) returns boolean
language sql immutable
return p_kind = 'service_card' and not coalesce(p_extra ? 'ext_json', false);

comment on function wxnotify_reads_back is 'Whether WeChat can be asked if a send of the row arrived.';

grant execute on function wxnotify_reads_back to wxnotify_worker;
