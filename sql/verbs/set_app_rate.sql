select set_app_rate($1, $2, $3)
