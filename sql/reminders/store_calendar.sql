-- Stores the times of a calendar, or why it has none.
select wxnotify_store_calendar($1, $2, $3, $4, $5, $6, $7)
