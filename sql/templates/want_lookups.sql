-- Brings the questions of these mini-programs forward, unless they were asked less than $2 seconds ago.
select wxnotify_want_lookup(appid, lookup, $2) from unnest($1::text[]) appid, unnest(array['templates', 'quota']) lookup
