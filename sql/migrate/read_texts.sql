-- Which texts were applied last.
select kind, name, hash from wxnotify_schema_texts
