-- $2 until (null: until an operator resumes it)
select pause_app_by_operator($1, $2, $3, $4)
