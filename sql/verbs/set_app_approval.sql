select set_app_approval($1, $2, $3)
