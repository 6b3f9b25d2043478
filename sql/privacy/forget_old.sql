-- Forgets texts, or receivers too, of what ended so many days ago. False: there is more.
select wxnotify_forget_old($1, $2)
