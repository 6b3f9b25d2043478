select resume_template($1, $2)
