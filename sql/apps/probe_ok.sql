-- The probe of a mini-program got a sound answer. Safe to repeat, and it ends no pause that still runs.
select wxnotify_probe_ok($1)
