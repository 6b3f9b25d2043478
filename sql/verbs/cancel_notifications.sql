-- $1 ids (at most 1,000), $2 whether rows in doubt end unresolved, $3 note, $4 filter for the audit row
select id, result, null::bigint as new_id from cancel_notifications($1, $2, $3, $4)
