-- Turns what dead workers left behind into due rows or doubts.
select wxnotify_rescue($1, $2)
