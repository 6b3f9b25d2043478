-- Somebody's text for an error message. A message that the client's encoding cannot hold is lost, and its reason with it: for such
-- a client, and of what nobody can see, the number is written, as \uXXXX.
create or replace function wxnotify_legible(p_text text) returns text
language sql stable set search_path from current as $$
    select coalesce(string_agg(
        case when c ~ '[ -~]'
               or current_setting('client_encoding') = 'UTF8' and c !~ E'[\\u0001-\\u001f\\u007f-\\u009f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff]'
             then c else E'\\u' || lpad(to_hex(ascii(c)), 4, '0') end, '' order by n), '')
    from string_to_table(left(p_text, 64), null) with ordinality t (c, n)
$$;

comment on function wxnotify_legible is 'The first 64 characters of a text; those that cannot be shown as their numbers.';

grant execute on function wxnotify_legible to wxnotify_worker;
