-- Cleans the front of a lane: ends expired and exhausted rows, parks what cannot be leased now.
select wxnotify_tidy($1, $2, $3)
