select pause_template_by_operator($1, $2, p_reason => 'the wording is being reviewed')
