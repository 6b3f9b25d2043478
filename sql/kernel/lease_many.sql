-- Leases from several mini-programs and lanes at once, each after a watermark of its own, until $8 rows are leased. An app that another
-- worker is leasing from is passed over.
select m.appid, m.lane, (m.leased).lease_id, (m.leased).low_lease_id, (m.leased).leased_at, (m.leased).id, (m.leased).kind, (m.leased).openid,
       (m.leased).template_id, (m.leased).page, (m.leased).data, (m.leased).extra, (m.leased).miniprogram_state, (m.leased).lang, (m.leased).due,
       (m.leased).attempts, (m.leased).attempts_max, (m.leased).in_doubt, (m.leased).expire_at, (m.leased).waiting_since, (m.leased).probe,
       (m.leased).started_at
from wxnotify_lease_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) m
