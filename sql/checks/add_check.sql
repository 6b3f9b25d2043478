-- True: it was new.
select add_check($1, $2, $3, $4)
