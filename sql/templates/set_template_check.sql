select set_template_check($1, $2, $3, $4)
