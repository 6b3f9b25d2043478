-- Ends doubts by events, for every mini-program that has one in doubt.
select coalesce(sum(wxnotify_weigh(a.appid)), 0)::bigint
from (select distinct appid from pending_notifications where in_doubt_since is not null) a
