-- $1 ids (at most 1,000), $2 send_at (null: now), $3 expire_at (null: as it is), $4 note, $5 filter for the audit row
select id, result, null::bigint as new_id from reschedule_notifications($1, $2, $3, $4, $5)
