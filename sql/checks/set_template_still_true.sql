select set_template_still_true($1, $2, $3, $4)
