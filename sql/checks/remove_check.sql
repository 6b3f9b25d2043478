select remove_check($1, $2)
