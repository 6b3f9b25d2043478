-- Whether a user can turn messages of this kind off, template by template: then the rows of a pair that refuses are not sent.
-- Without a SET, so that it is inlined.
create or replace function wxnotify_can_be_refused(p_kind text) returns boolean
language sql immutable parallel safe
return p_kind in ('one_time', 'long_term');

comment on function wxnotify_can_be_refused is 'Whether a user can turn messages of this kind off, template by template.';

grant execute on function wxnotify_can_be_refused to wxnotify_worker;
