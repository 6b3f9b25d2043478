-- Every lane and how long until its first row is due: negative when it is overdue, null when it is never due by itself.
select appid, lane, case when due < 'infinity' then extract(epoch from due - clock_timestamp())::float8 end as due_in_secs, clock_timestamp() as at
from wxnotify_fronts()
