-- As `wxnotify app add` does: registers a mini-program, and makes rows that already waited for it due.
select add_app($1, $2), resume_app($1)
