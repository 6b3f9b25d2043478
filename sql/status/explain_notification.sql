-- What happened to one notification, why, and what happens next; one row even for an unknown id.
select id, status, sentence, sentence_zh, what_next, what_next_zh, next_at, timeline from explain_notification($1)
