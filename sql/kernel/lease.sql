-- Leases up to $7 due rows of one mini-program and lane after the watermark ($4, $5). Safe because the function picks under
-- the app lock and inserts one row that names every leased id.
select lease_id, low_lease_id, leased_at, id, kind, openid, template_id, page, data, extra, miniprogram_state, lang, due, attempts, attempts_max,
       in_doubt, expire_at, waiting_since, probe, started_at
from wxnotify_lease($1, $2, $3, $4, $5, $6, $7, $8, $9)
