-- What ended, by minute. $1 minutes back, $2 minutes in one bin, $3 appid or null
select date_bin(make_interval(mins => $2), finished_at, '2000-01-01') as minute, status, count(*) as rows
from notifications_final
where finished_at > now() - make_interval(mins => $1) and ($3::text is null or appid = $3)
group by 1, 2
order by 1
