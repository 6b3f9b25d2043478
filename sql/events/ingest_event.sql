-- Stores an event of WeChat, once: a repeat changes nothing. Returns how many entries were new; null: nothing we keep.
select wxnotify_ingest_event($1, $2)
