-- Applies what users accepted and refused, a bounded batch at a time; one worker at a time, the others get 0.
select wxnotify_apply_answers($1, $2, $3)
