-- Sees to schedules that were inserted, edited, paused, resumed or deleted. Safe beside others: one worker at a time does.
select wxnotify_apply_changes($1)
