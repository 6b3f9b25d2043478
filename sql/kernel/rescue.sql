-- Turns what dead workers left behind into due rows or doubts; the caller's own leases $4 are not among them.
select wxnotify_rescue($1, $2, $3, $4)
