-- What is said in words to people may begin with a code and a colon, `disputed: its answer …`, for programs. Here alone is it read.
create or replace function wxnotify_attempt_code(p_reason text) returns text
language sql immutable set search_path from current as $$ select case split_part(p_reason, ':', 1) when 'disputed' then 'disputed' end $$;

comment on function wxnotify_attempt_code is 'The code that the reason of an attempt begins with, or null: disputed (its answer came for another notification, too).';
