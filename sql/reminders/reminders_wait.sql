-- How many seconds until there is something to do for reminders: one look at three indexes, all that a worker without any does.
select wxnotify_reminders_wait($1)
