select set_default_app($1, $2)
