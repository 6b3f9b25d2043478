select wxnotify_record_action($1, $2, 1, $3)
