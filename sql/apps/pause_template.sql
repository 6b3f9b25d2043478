-- Pauses one template. Safe to repeat: a pause is never shortened.
select wxnotify_pause_template($1, $2, $3, $4, $5, $6)
