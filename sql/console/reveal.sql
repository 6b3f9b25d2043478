-- Receiver and texts; that they were asked for is recorded. $1 id, $2 note
select openid, data, page from reveal_notification($1, $2)
