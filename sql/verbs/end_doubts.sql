-- $1 ids (at most 1,000), $2 verdict: sent, not_sent or retry, $3 note, $4 filter for the audit row
select id, result, null::bigint as new_id from wxnotify_end_doubts($1, $2, $3, $4)
