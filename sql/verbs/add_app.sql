select add_app($1, $2, $3, $4)
