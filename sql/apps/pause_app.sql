-- Pauses a mini-program. Safe to repeat: a pause is never shortened.
select wxnotify_pause_app($1, $2, $3, $4, $5)
