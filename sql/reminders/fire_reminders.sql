-- Makes the fires that are due within $1 seconds, of $2 schedules at most, but for those of $3. Safe because each clock is locked and compared.
select kept_back, looked_at, made from wxnotify_fire_due($1, $2, $3)
