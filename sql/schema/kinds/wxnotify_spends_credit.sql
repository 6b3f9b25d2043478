-- Whether a message of this kind takes one accept of the user's. Without a SET, so that it is inlined: an index's condition stays
-- one. The public views say it in their own words, since who may read them need not be allowed to call this.
create or replace function wxnotify_spends_credit(p_kind text) returns boolean
language sql immutable parallel safe
return p_kind = 'one_time';

comment on function wxnotify_spends_credit is 'Whether a message of this kind takes one accept of the user''s.';

grant execute on function wxnotify_spends_credit to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
